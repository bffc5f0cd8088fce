package ntptime

import (
	"testing"
	"time"
)

func TestShortestForgetsWhatIsOldAndTakesNoMistake(t *testing.T) {
	var s Shortest
	if s.Least() != 0 {
		t.Errorf("before the first: got %v, want 0", s.Least())
	}
	for _, d := range []time.Duration{5 * time.Microsecond, 3 * time.Microsecond, -1, 2 * longestLead, 9 * time.Microsecond} {
		s.Note(d)
	}
	if s.Least() != 3*time.Microsecond {
		t.Errorf("got %v, want the 3µs", s.Least())
	}
	if s.Full() {
		t.Error("full after three")
	}
	for range len(s.recent) {
		s.Note(7 * time.Microsecond)
	}
	if s.Least() != 7*time.Microsecond {
		t.Errorf("got %v after as many as are remembered, want their 7µs", s.Least())
	}
}
