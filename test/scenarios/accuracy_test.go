//go:build accuracy

package scenarios

import (
	"context"
	"fmt"
	"math"
	"os"
	"testing"
	"text/tabwriter"
	"time"

	"timeball/internal/simulate"
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
	printChains(t)
}

// printChains prints how the error grows from stratum to stratum, ours and others'.
func printChains(t *testing.T) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nchain\tof\tstratum 2 us\tstratum 3 us\tstratum 4 us\t3 to 2\t4 to 2\t")
	line := func(scenario, of string, rms [3]float64) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%.2f\t%.2f\t\n", scenario, of,
			microseconds(rms[0]), microseconds(rms[1]), microseconds(rms[2]), rms[1]/rms[0], rms[2]/rms[0])
	}
	last := ""
	for _, record := range records(t, "chains.csv") {
		if record[0] != last {
			last = record[0]
			result, err := simulate.Run(context.Background(), load(t, "behaviour/"+last+".yaml", polling{}, 10), simulate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			h := result.Hosts
			line(last, "timeball", [3]float64{h[1].Median.RMSError, h[2].Median.RMSError, h[3].Median.RMSError})
		}
		line(record[0], record[1], [3]float64{numeral(t, record[2]), numeral(t, record[3]), numeral(t, record[4])})
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
}

func (r *row) toChrony() float64 {
	if r.chrony == nil {
		return math.NaN()
	}
	return r.figures.RMSError / r.chrony.rms
}

func at(name string) func(*row) bool { return func(r *row) bool { return r.polling.name == name } }

// microseconds, ratio and seconds print a number for the table, "-" for none.
func microseconds(seconds float64) string {
	if math.IsInf(seconds, 1) {
		return "never"
	}
	return fmt.Sprintf("%.2f", seconds*1e6)
}

func ratio(value float64) string {
	if math.IsNaN(value) {
		return "-"
	}
	return fmt.Sprintf("%.2f", value)
}

func seconds(value float64) string {
	if math.IsInf(value, 1) {
		return "never"
	}
	return fmt.Sprintf("%.0f", value)
}
