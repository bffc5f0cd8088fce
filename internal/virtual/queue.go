package virtual

import "cmp"

// Queue is what is going to happen, the earliest first, and within one moment in the order
// in which it was put there. T is the scale of time.
type Queue[T cmp.Ordered, E any] struct {
	items []queued[T, E] // a binary heap
	seq   uint64
}

type queued[T cmp.Ordered, E any] struct {
	at   T
	seq  uint64
	what E
}

func (q *queued[T, E]) before(other *queued[T, E]) bool {
	return q.at < other.at || q.at == other.at && q.seq < other.seq
}

// Push adds what happens at a moment.
func (q *Queue[T, E]) Push(at T, what E) {
	q.items = append(q.items, queued[T, E]{at, q.seq, what})
	q.seq++
	for i := len(q.items) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q.items[i].before(&q.items[parent]) {
			break
		}
		q.items[i], q.items[parent] = q.items[parent], q.items[i]
		i = parent
	}
}

// Next is when the earliest happens; false: nothing does.
func (q *Queue[T, E]) Next() (at T, ok bool) {
	if len(q.items) == 0 {
		return at, false
	}
	return q.items[0].at, true
}

// Pop removes the earliest; the queue must not be empty.
func (q *Queue[T, E]) Pop() (at T, what E) {
	first := q.items[0]
	last := len(q.items) - 1
	q.items[0] = q.items[last]
	q.items[last] = queued[T, E]{}
	q.items = q.items[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q.items[child].before(&q.items[least]) {
				least = child
			}
		}
		if least == i {
			return first.at, first.what
		}
		q.items[i], q.items[least] = q.items[least], q.items[i]
		i = least
	}
}
