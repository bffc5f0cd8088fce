package lab

import (
	"testing"

	"timeball/internal/simulate"
)

// A client that is told RATE slows down to the same poll in the simulator and in the lab
// (RFC 5905 §7.4).
func TestSamePollsUnderARateLimit(t *testing.T) {
	const text = `
hosts:
  server: {config: {local: {stratum: 1}, server: {rate_limit: {interval: 4s, burst: 1, leak: 16}}}}
  client: {clock: {offset: 1ms}, config: {sources: [{server: server, min_poll: 0, max_poll: 0}]}}
links: [{between: [client, server], delay: 1ms}]
`
	result, err := simulate.Run(t.Context(), scenarioOf(t, text), simulate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	obeys := func(poll int) bool { return poll == 2 || poll == 3 } // 4 s, or 8 s after another kiss
	for _, h := range result.Hosts {
		if h.Name != "client" {
			continue
		}
		if poll := int(h.Runs[0].Final.Sources[0].Poll); !obeys(poll) {
			t.Errorf("the simulated client polls every 2^%d s at a limit of one in 4 s, want 4 s or 8 s", poll)
		}
	}
	l := run(t, text)
	until(t, l, "the daemon polls as the simulated one", func(s *State) bool {
		sources := s.Hosts["client"].Sources
		return len(sources) == 1 && obeys(sources[0].Poll)
	})
}
