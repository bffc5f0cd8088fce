package simulate

import (
	"timeball/internal/model"
	"timeball/internal/scenario"
)

// kind says what happens to a machine at a moment.
type kind uint8

const (
	doScenario kind = iota // a row of `events:`
	doWake                 // a deadline of the core may be due
	doTend                 // the program looks after what it does now and then
	doLeap                 // the clock's end of the UTC day may be reached
	doJump                 // the once-a-second look at the clock (clock.CheckJump)
	doDeliver              // a packet arrives
	doServe                // the answer to a request that arrived earlier leaves
	doReplay               // the reply of a recorded exchange arrives
	doReading              // a reference clock's device tells its time
)

// happening is one entry of the queue of events.
type happening struct {
	kind    kind
	machine int
	// generation of the machine's timer: an entry of an older one is stale.
	generation uint32
	packet     *packet
	event      *scenario.Event
	replay     int            // doReplay: number of the host's record,
	next       int            // and of the exchange in it
	source     model.SourceID // doReading: whose device it is
}
