package simulate

import (
	"context"
	"testing"

	"timeball/internal/scenario"
)

// BenchmarkClient simulates one client that polls one server every 64 s, on one
// core; the metric to read is simulated seconds per second.
func BenchmarkClient(b *testing.B) {
	s, err := scenario.Parse("bench.yaml", []byte(`duration: 1000000s
hosts:
  server: {config: {local: {stratum: 1}, server: {}}}
  client:
    clock: {offset: 10ms, frequency: 10ppm, wander: 1e-9}
    config: {sources: [{server: server, min_poll: 6, max_poll: 6}]}
links:
  - {between: [client, server], delay: 100us, jitter: {distribution: exponential, mean: 100us}}
`))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Run(context.Background(), s, Options{Parallel: 1}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(s.Duration.Seconds()*float64(b.N)/b.Elapsed().Seconds(), "simulated-s/s")
}
