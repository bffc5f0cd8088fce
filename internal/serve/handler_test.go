package serve

import (
	"bytes"
	"sync/atomic"
	"testing"

	"timeball/internal/model"
	"timeball/internal/nts"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// testHandler is a handler of one shard that hands on to a queue of a length.
func testHandler(queue int) (*handler, chan model.Received) {
	arrived := make(chan model.Received, queue)
	h := &handler{shard: new(atomic.Pointer[responder.Shard]), dropped: new(atomic.Uint64), env: &Env{
		Snapshot: new(atomic.Pointer[model.Snapshot]), Policy: new(atomic.Pointer[responder.Policy]),
		Serves: new(atomic.Bool), Ring: new(atomic.Pointer[nts.Ring]), Arrived: arrived, Queries: arrived,
	}}
	h.shard.Store(responder.NewShard(responder.ShardConfig{Random: 1}))
	return h, arrived
}

// request is a packet of a mode, version 4.
func request(mode wire.Mode) []byte {
	b := make([]byte, wire.HeaderSize)
	b[0], b[40] = 4<<3|byte(mode), 0xe9
	return b
}

// Flat memory under any flood: what is for associations costs none once the queue is full.
func TestAFullQueueDropsWithoutAnAllocation(t *testing.T) {
	h, arrived := testHandler(2)
	rx := &model.Received{Data: request(wire.ModeActive)}
	for range 2 {
		h.Handle(rx, 0, nil)
	}
	allocations := testing.AllocsPerRun(100, func() { h.Handle(rx, 0, nil) })
	if allocations != 0 || len(arrived) != 2 || h.dropped.Load() != 101 {
		t.Errorf("got %v allocations a packet, %d queued, %d dropped; want 0, 2, 101", allocations, len(arrived), h.dropped.Load())
	}
	<-arrived
	if h.Handle(rx, 0, nil); len(arrived) != 2 || h.dropped.Load() != 101 {
		t.Errorf("with room again: got %d queued, %d dropped; want 2, 101", len(arrived), h.dropped.Load())
	}
}

// What is handed on is a copy, for the socket's buffer is used again, and it is counted.
func TestWhatIsForAnAssociationIsCopied(t *testing.T) {
	for _, test := range []struct {
		name string
		mode wire.Mode
		want int
	}{
		{"mode 1", wire.ModeActive, 1},
		{"mode 2", wire.ModePassive, 1},
		{"mode 3 is the responder's", wire.ModeClient, 0},
		{"mode 4", wire.ModeServer, 1},
		{"mode 5", wire.ModeBroadcast, 1},
		{"mode 7 is nobody's", wire.ModePrivate, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, arrived := testHandler(4)
			data := request(test.mode)
			want := bytes.Clone(data)
			if n, _ := h.Handle(&model.Received{Data: data}, 0, make([]byte, 48)); n != 0 {
				t.Errorf("got a reply of %d bytes, want none", n)
			}
			clear(data)
			counted := h.shard.Load().Counters() // what is handed on is counted by who decides about it
			if got := counted.Received(); len(arrived) != test.want || got != uint64(1-test.want) {
				t.Fatalf("got %d queued and %d counted, want %d and %d", len(arrived), got, test.want, 1-test.want)
			}
			if test.want == 0 {
				return
			}
			if a := <-arrived; !bytes.Equal(a.Data, want) {
				t.Errorf("got %x, want %x", a.Data, want)
			}
		})
	}
}
