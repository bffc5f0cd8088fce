package vm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"timeball/test/vm/page"
)

// Reading is one of the guest's clocks, and when it was true.
type Reading struct {
	Truth time.Time
	Error time.Duration // CLOCK_REALTIME - truth
	Width time.Duration // half of the span in which Error lies
	Page  page.Page
}

func (r Reading) String() string {
	return fmt.Sprintf("%s: error %v ± %v, status %#x, freq %.3f ppm, tick %d, maxerror %d µs, TAI offset %d, CLOCK_TAI - CLOCK_REALTIME %v",
		r.Truth.Format("15:04:05.000"), r.Error, r.Width, r.Page.Status, float64(r.Page.Freq)/65536, r.Page.Tick, r.Page.MaxError, r.Page.TAIOffset,
		time.Duration(r.Page.TAI-r.Page.Real).Round(time.Second))
}

// Unsynchronized says whether the kernel does (STA_UNSYNC).
func (r Reading) Unsynchronized() bool { return r.Page.Status&0x40 != 0 }

// Sampler reads the page as the guest writes it.
type Sampler struct {
	page  *page.Page
	truth func() time.Time
	stop  chan struct{}

	mu   sync.Mutex
	kept []Reading
}

func newSampler(p *page.Page, truth func() time.Time) *Sampler {
	s := &Sampler{page: p, truth: truth, stop: make(chan struct{})}
	go s.run()
	return s
}

func (s *Sampler) close() { close(s.stop) }

// run sleeps until the guest writes, and then looks on for as long as it does.
func (s *Sampler) run() {
	last := atomic.LoadUint64(&s.page.Seq)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if atomic.LoadUint64(&s.page.Seq) == last {
			continue
		}
		if best, ok := s.burst(); ok {
			s.mu.Lock()
			s.kept = append(s.kept, best)
			s.mu.Unlock()
		}
		last = atomic.LoadUint64(&s.page.Seq)
	}
}

// burst gives the reading that was seen to come about in the shortest time: it was made
// after we last saw the one before, and before we saw it.
func (s *Sampler) burst() (best Reading, ok bool) {
	p := s.page
	before := s.truth() // before the look at seq, or what came about between them would seem to be later
	seen := atomic.LoadUint64(&p.Seq)
	for quiet, began := time.Now(), time.Now(); time.Since(quiet) < time.Millisecond && time.Since(began) < 10*time.Millisecond; {
		now := s.truth()
		seq := atomic.LoadUint64(&p.Seq)
		after := s.truth()
		if seq == seen {
			before = now // it had not come about yet
			continue
		}
		quiet = time.Now()
		if seen%2 == 0 && seq == seen+2 { // at an odd one the clock may have been read already
			r := copyOf(p)
			if atomic.LoadUint64(&p.Seq) == seq {
				r.at(before, after)
				if !ok || r.Width < best.Width {
					best, ok = r, true
				}
			}
		}
		if seq%2 == 0 {
			seen = seq
			before = now
		}
	}
	return best, ok
}

func (r *Reading) at(before, after time.Time) {
	early, late := time.Duration(r.Page.Real-after.UnixNano()), time.Duration(r.Page.Real-before.UnixNano())
	r.Truth, r.Error, r.Width = after, early/2+late/2, (late-early)/2
}

func copyOf(p *page.Page) (r Reading) {
	r.Page = page.Page{
		Raw: atomic.LoadInt64(&p.Raw), Real: atomic.LoadInt64(&p.Real), RawAfter: atomic.LoadInt64(&p.RawAfter), TAI: atomic.LoadInt64(&p.TAI), Mono: atomic.LoadInt64(&p.Mono),
		State: atomic.LoadInt64(&p.State), Status: atomic.LoadInt64(&p.Status), Freq: atomic.LoadInt64(&p.Freq), Tick: atomic.LoadInt64(&p.Tick),
		MaxError: atomic.LoadInt64(&p.MaxError), TAIOffset: atomic.LoadInt64(&p.TAIOffset),
	}
	return r
}

// Since gives the readings from a moment of this machine's life on; Mark is such a one.
func (s *Sampler) Since(mark int) []Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Reading(nil), s.kept[mark:]...)
}

// Mark is now, for Since.
func (s *Sampler) Mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// Last is the newest reading; a zero one before the first.
func (s *Sampler) Last() (r Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.kept); n > 0 {
		r = s.kept[n-1]
	}
	return r
}
