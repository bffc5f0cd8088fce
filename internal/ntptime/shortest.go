package ntptime

import "time"

// Shortest is the least of the last 64 durations that sending or handling has taken; what
// nothing takes, less than 0 or more than a millisecond, is left out: a driver's mistake. The
// zero value is ready. One goroutine owns it.
type Shortest struct {
	recent [64]time.Duration
	count  int // so far
	least  time.Duration
}

const longestLead = time.Millisecond

// Note takes one more.
func (s *Shortest) Note(d time.Duration) {
	if d < 0 || d > longestLead {
		return
	}
	s.recent[s.count%len(s.recent)] = d
	s.count++
	s.least = longestLead
	for _, one := range s.recent[:min(s.count, len(s.recent))] {
		s.least = min(s.least, one)
	}
}

// Least is the least of them, 0 before the first.
func (s *Shortest) Least() time.Duration { return s.least }

// Full says whether there have been as many as are remembered.
func (s *Shortest) Full() bool { return s.count >= len(s.recent) }
