package association

import (
	"testing"
	"time"
)

// UNREACH of RFC 5905's code is 12: from the thirteenth unanswered poll on the interval
// doubles with each, up to max_poll.
func TestRFC5905_13_UnreachIsTwelve(t *testing.T) {
	p := pollProcess{min: 64 * time.Second, max: 1024 * time.Second}
	for silent, want := range map[int]time.Duration{
		0: 64 * time.Second, 11: 64 * time.Second, 12: 64 * time.Second, 13: 128 * time.Second, 14: 256 * time.Second,
		16: 1024 * time.Second, 17: 1024 * time.Second, 1000: 1024 * time.Second,
	} {
		p.missed = silent
		if got := p.interval(); got != want {
			t.Errorf("after %d unanswered polls: got %v, want %v", silent, got, want)
		}
	}
}
