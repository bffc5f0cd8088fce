package simulate

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"timeball/internal/scenario"
)

// named are the figures under their names in the JSON report and in `expect:`.
func (f *Figures) named() []struct {
	name  string
	value *float64
} {
	return []struct {
		name  string
		value *float64
	}{
		{"rms_error", &f.RMSError}, {"mean_error", &f.MeanError}, {"p95_error", &f.P95Error}, {"max_error", &f.MaxError},
		{"rms_frequency_error", &f.RMSFrequencyError}, {"convergence", &f.Convergence},
		{"packets_sent_per_hour", &f.PacketsSentPerHour}, {"steps", &f.Steps},
		{"mean_error_bound", &f.MeanErrorBound}, {"bound_coverage", &f.BoundCoverage},
	}
}

// get gives a figure by its name.
func (f *Figures) get(name string) float64 {
	for _, figure := range f.named() {
		if figure.name == name {
			return *figure.value
		}
	}
	return math.NaN()
}

// median gives the median of each figure over the runs; of an even number the mean
// of the two in the middle.
func median(all []Figures) Figures {
	var result Figures
	into := result.named()
	for i := range into {
		values := make([]float64, len(all))
		for j := range all {
			values[j] = *all[j].named()[i].value
		}
		*into[i].value = medianOf(values)
	}
	return result
}

func medianOf(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1 || values[n/2-1] == values[n/2]: // infinities too
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}

// Converged is the time in seconds after which the host's error stays below a
// threshold for half an hour, or to the end; the median over the runs, infinite for
// never. The runs must have been made with Options.Series.
func (h *HostResult) Converged(below time.Duration) float64 {
	values := make([]float64, len(h.Runs))
	for i := range h.Runs {
		c := convergence{threshold: below.Seconds(), since: -1, at: -1}
		for k, x := range h.Runs[i].series {
			c.sample(int64(k), math.Abs(x))
		}
		values[i] = c.seconds()
	}
	return medianOf(values)
}

// WriteTable prints a row for each host: the medians over the runs, and the stratum at
// the end of the first.
func (r *Result) WriteTable(w io.Writer) error {
	s := r.Scenario
	runs := "1 run"
	if s.Runs > 1 {
		runs = fmt.Sprintf("median of %d runs", s.Runs)
	}
	fmt.Fprintf(w, "%s simulated, statistics from %s on, %s\n\n", formatSpan(s.Duration), formatSpan(s.Settle), runs)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "host\trms error\t95 %%\tmax\tbound\theld\tfrequency\tbelow %s\tpackets/h\tsteps\tstratum\t\n",
		scenario.FormatSeconds(s.ConvergedBelow.Seconds()))
	for i := range r.Hosts {
		h := &r.Hosts[i]
		f := &h.Median
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", h.Name,
			scenario.FormatSeconds(f.RMSError), scenario.FormatSeconds(f.P95Error), scenario.FormatSeconds(f.MaxError),
			scenario.FormatSeconds(f.MeanErrorBound), formatShare(f.BoundCoverage), scenario.FormatNumber(f.RMSFrequencyError*1e6)+" ppm",
			scenario.FormatSeconds(f.Convergence), scenario.FormatNumber(f.PacketsSentPerHour), scenario.FormatNumber(f.Steps), h.stratum())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return r.writeReplays(w)
}

// writeReplays prints, for each host that played a record, how it did beside a filter
// that takes the exchange of least delay of the last eight.
func (r *Result) writeReplays(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	some := false
	for i := range r.Hosts {
		h := &r.Hosts[i]
		model := r.Scenario.Host(h.Name)
		if model == nil || len(model.Replays) == 0 {
			continue
		}
		if !some {
			fmt.Fprintf(table, "\nreplayed by\trms error\tmean\t95 %%\tmax\theld\t\n")
			some = true
		}
		if truth(model) == nil {
			fmt.Fprintf(table, "%s\t-\t-\t-\t-\t-\t\n", h.Name)
			continue
		}
		for _, row := range []struct {
			name string
			f    *Figures
		}{{h.Name, &h.Median}, {"least delay of 8", &h.Plain}} {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t\n", row.name, scenario.FormatSeconds(row.f.RMSError), scenario.FormatSeconds(row.f.MeanError),
				scenario.FormatSeconds(row.f.P95Error), scenario.FormatSeconds(row.f.MaxError), formatShare(row.f.BoundCoverage))
		}
	}
	return table.Flush()
}

// stratum is the one at the end of the first run, "-" while not synchronized.
func (h *HostResult) stratum() string {
	if final := h.Runs[0].Final; final != nil && final.Synchronized {
		return fmt.Sprint(final.Stratum)
	}
	return "-"
}

// figuresJSON is Figures as the report has them; what is not finite becomes null.
type figuresJSON struct {
	RMSError           *float64 `json:"rms_error"`
	MeanError          *float64 `json:"mean_error"`
	P95Error           *float64 `json:"p95_error"`
	MaxError           *float64 `json:"max_error"`
	RMSFrequencyError  *float64 `json:"rms_frequency_error"`
	Convergence        *float64 `json:"convergence"`
	PacketsSentPerHour *float64 `json:"packets_sent_per_hour"`
	Steps              *float64 `json:"steps"`
	MeanErrorBound     *float64 `json:"mean_error_bound"`
	BoundCoverage      *float64 `json:"bound_coverage"`
}

// runJSON is one run of a host.
type runJSON struct {
	Seed uint64 `json:"seed"`
	figuresJSON
	Synchronized bool              `json:"synchronized"`
	Stratum      uint8             `json:"stratum"`
	Sources      map[string]string `json:"sources"`
}

// plainJSON is what a filter makes of a record that takes the least delay of eight.
type plainJSON struct {
	RMSError  float64 `json:"rms_error"`
	MeanError float64 `json:"mean_error"`
	P95Error  float64 `json:"p95_error"`
	MaxError  float64 `json:"max_error"`
}

// hostJSON is a host in the report.
type hostJSON struct {
	figuresJSON
	Plain *plainJSON `json:"least_delay_of_eight,omitempty"`
	Runs  []runJSON  `json:"runs"`
}

// WriteJSON writes the figures of each host, medians and single runs, in seconds.
func (r *Result) WriteJSON(w io.Writer) error {
	hosts := map[string]hostJSON{}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		host := hostJSON{figuresJSON: h.Median.json()}
		if model := r.Scenario.Host(h.Name); model != nil && truth(model) != nil {
			host.Plain = &plainJSON{h.Plain.RMSError, h.Plain.MeanError, h.Plain.P95Error, h.Plain.MaxError}
		}
		for j := range h.Runs {
			run := &h.Runs[j]
			row := runJSON{Seed: run.Seed, figuresJSON: run.Figures.json(), Sources: run.states}
			if run.Final != nil {
				row.Synchronized, row.Stratum = run.Final.Synchronized, run.Final.Stratum
			}
			host.Runs = append(host.Runs, row)
		}
		hosts[h.Name] = host
	}
	violations := r.Violations()
	if violations == nil {
		violations = []string{}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string]any{"hosts": hosts, "violations": violations})
}

func (f *Figures) json() figuresJSON {
	finite := func(value float64) *float64 {
		if math.IsInf(value, 0) || math.IsNaN(value) {
			return nil
		}
		return &value
	}
	return figuresJSON{
		RMSError: finite(f.RMSError), MeanError: finite(f.MeanError), P95Error: finite(f.P95Error), MaxError: finite(f.MaxError),
		RMSFrequencyError: finite(f.RMSFrequencyError), Convergence: finite(f.Convergence),
		PacketsSentPerHour: finite(f.PacketsSentPerHour), Steps: finite(f.Steps),
		MeanErrorBound: finite(f.MeanErrorBound), BoundCoverage: finite(f.BoundCoverage),
	}
}
