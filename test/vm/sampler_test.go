package vm

import (
	"sync/atomic"
	"testing"
	"time"

	"timeball/test/vm/page"
)

// The host may lose its processor between any two of its looks at the page: what the guest
// writes meanwhile must not seem to be written in the moment that it is seen.
func TestASamplerThatIsHeldUpTellsNoWrongTime(t *testing.T) {
	for _, c := range []struct {
		name string
		at   int  // the look at the clock during which the guest writes, and we are held up
		half bool // when we begin, the guest has read its clock and not yet said so
	}{
		{"before the first look", 1, false},
		{"before the second", 2, false},
		{"before the third", 3, false},
		{"in the middle of a reading", 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := new(page.Page)
			now, looks := time.Unix(1_000_000_000, 0), 0
			write := func() { // the guest's clock is right
				atomic.StoreInt64(&p.Real, now.UnixNano())
				atomic.AddUint64(&p.Seq, 2-p.Seq%2)
			}
			if c.half {
				p.Real, p.Seq = now.UnixNano(), 1
			}
			s := &Sampler{page: p, truth: func() time.Time {
				looks++
				now = now.Add(time.Microsecond)
				if looks == c.at {
					write()
					now = now.Add(2 * time.Millisecond)
				}
				return now
			}}
			if r, ok := s.burst(); ok && r.Error.Abs() > r.Width {
				t.Errorf("a clock that is right seems off by %v ± %v", r.Error, r.Width)
			}
		})
	}
}
