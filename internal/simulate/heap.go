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

// happening is one entry of the event heap.
type happening struct {
	at      int64 // true nanoseconds since the start
	seq     uint64
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

// before orders by time, and by the order of scheduling within one moment.
func (h *happening) before(other *happening) bool {
	return h.at < other.at || h.at == other.at && h.seq < other.seq
}

// eventHeap is a binary heap, the earliest first.
type eventHeap struct {
	items []happening
	seq   uint64
}

func (h *eventHeap) push(e happening) {
	e.seq = h.seq
	h.seq++
	h.items = append(h.items, e)
	i := len(h.items) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !h.items[i].before(&h.items[parent]) {
			break
		}
		h.items[i], h.items[parent] = h.items[parent], h.items[i]
		i = parent
	}
}

// pop removes the earliest; the heap must not be empty.
func (h *eventHeap) pop() happening {
	first := h.items[0]
	last := len(h.items) - 1
	h.items[0] = h.items[last]
	h.items[last] = happening{}
	h.items = h.items[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h.items[child].before(&h.items[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		h.items[i], h.items[least] = h.items[least], h.items[i]
		i = least
	}
}
