//go:build accuracy

package scenarios

import (
	"fmt"
	"os"
	"testing"
	"text/tabwriter"
	"time"
)

// TestAccuracyTable prints what we reach in every scenario of the reference tables
// beside what the other daemons reach and what is possible: medians over ten seeds.
//
//	go test -tags accuracy -run TestAccuracyTable -v ./test/scenarios
func TestAccuracyTable(t *testing.T) {
	all := rows(t, 10)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "scenario\tpoll\tRMS us\tbest us\tof\t/best\t/chrony\t/weighted\t/bayes\tpackets/h\tmax us\t<1 ms s\t<100 us s\tfreq/chrony\theld %\tbound us\t")
	for i := range all {
		r := &all[i]
		peerRMS, peerName := "-", "-"
		if r.best != nil {
			peerRMS, peerName = microseconds(r.best.rms), r.best.program
		}
		f := &r.figures
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t%s\t%s\t%s\t%s\t%.2f\t%s\t\n", r.scenario, r.polling.name,
			microseconds(f.RMSError), peerRMS, peerName, ratio(r.toBest()), ratio(r.toChrony()), ratio(r.toDelayWeighted()), ratio(r.toBayes()),
			f.PacketsSentPerHour, microseconds(f.MaxError), seconds(r.below[time.Millisecond]), seconds(r.below[100*time.Microsecond]),
			ratio(r.frequencyToChrony()), f.BoundCoverage*100, microseconds(f.MeanErrorBound))
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []struct {
		what  string
		ratio func(*row) float64
		which func(*row) bool
	}{
		{"RMS to the best peer, all", (*row).toBest, everyRow},
		{"RMS to the best peer, default polling", (*row).toBest, at("def")},
		{"RMS to the best peer, 16 s", (*row).toBest, at("p4")},
		{"RMS to the best peer, 64 s", (*row).toBest, at("p6")},
		{"RMS to chrony, all", (*row).toChrony, everyRow},
		{"RMS to the delay-weighted Kalman limit", (*row).toDelayWeighted, everyRow},
		{"RMS to the Bayes limit", (*row).toBayes, everyRow},
		{"RMS frequency error to chrony", (*row).frequencyToChrony, everyRow},
	} {
		mean, n := geometric(all, line.ratio, line.which)
		fmt.Printf("geometric mean of %s: %.3f (%d rows)\n", line.what, mean, n)
	}
}
