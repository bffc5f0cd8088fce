package bench

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"timeball/test/peers"
)

var packets = flag.Float64("packets", 10e6, "packets of the test of endurance")

// BenchmarkEndurance sends ten million packets of every kind, valid and broken, from
// 65,536 addresses: memory stays flat, the log does not grow, no thread and no
// descriptor is added, and the server still answers.
func BenchmarkEndurance(b *testing.B) {
	lab := peers.NewLab(b)
	h := lab.Host("soak")
	s := startTimeball(b, h, "timeball", 2123, "")
	s.answers(b, h)
	const rate = 100_000
	load := Load{Kind: KindMixed, Rate: rate, Burst: 16, Addresses: 65536}
	for range b.N {
		load.Duration = 30 * time.Second // tables fill, the heap finds its size, the daemon has said what it says at a start
		apply(b, h, s, load)
		before, said, descriptors := s.resident(), len(s.Log()), s.Descriptors()
		load.Duration = time.Duration(*packets / rate * float64(time.Second))
		m := apply(b, h, s, load)
		after := s.resident()
		b.ReportMetric(float64(m.Sent), "packets")
		b.ReportMetric(float64(m.Received), "replies")
		b.ReportMetric(before, "MiB-before")
		b.ReportMetric(after, "MiB-after")
		if after > before+1 {
			b.Errorf("resident memory grew from %.1f to %.1f MiB in %d packets", before, after, m.Sent)
		}
		if grown := len(s.Log()) - said; grown > 0 {
			b.Errorf("the log grew by %d bytes", grown)
		}
		if now := s.Descriptors(); now > descriptors {
			b.Errorf("%d descriptors, %d before", now, descriptors)
		}
		fmt.Printf("\nendurance: %d packets, %d replies; resident memory %.1f MiB before, %.1f after\n", m.Sent, m.Received, before, after)
	}
	s.answers(b, h)
}
