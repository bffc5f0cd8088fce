package simulate

import (
	"testing"
	"timeball/internal/virtual"
)

func TestHeapGivesTheEarliestAndKeepsTheOrderWithinAMoment(t *testing.T) {
	s := virtual.NewStream(1, "heap")
	var h eventHeap
	type mark struct {
		at  int64
		seq int
	}
	last := mark{-1, -1}
	pushed, popped := 0, 0
	for popped < 5000 {
		if pushed < 5000 && (len(h.items) == 0 || s.Uint64()%3 > 0) {
			at := max(last.at, 0) + int64(s.Uint64()%4) // never into the past, often the same moment
			h.push(happening{at: at, machine: pushed})
			pushed++
			continue
		}
		e := h.pop()
		popped++
		if e.at < last.at || e.at == last.at && e.machine < last.seq {
			t.Fatalf("got %d/%d after %d/%d, want order of time and of scheduling", e.at, e.machine, last.at, last.seq)
		}
		last = mark{e.at, e.machine}
	}
}
