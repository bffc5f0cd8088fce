package virtual

import "testing"

func TestQueueGivesTheEarliestAndKeepsTheOrderWithinAMoment(t *testing.T) {
	s := NewStream(1, "heap")
	var q Queue[int64, int]
	lastAt, lastWhat := int64(-1), -1
	pushed, popped := 0, 0
	for popped < 5000 {
		if _, some := q.Next(); pushed < 5000 && (!some || s.Uint64()%3 > 0) {
			q.Push(max(lastAt, 0)+int64(s.Uint64()%4), pushed) // never into the past, often the same moment
			pushed++
			continue
		}
		at, what := q.Pop()
		popped++
		if at < lastAt || at == lastAt && what < lastWhat {
			t.Fatalf("got %d/%d after %d/%d, want order of time and of scheduling", at, what, lastAt, lastWhat)
		}
		lastAt, lastWhat = at, what
	}
}
