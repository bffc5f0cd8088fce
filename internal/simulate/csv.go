package simulate

import (
	"bufio"
	"io"
	"strconv"
	"strings"

	"timeball/internal/picture"
)

// WriteCSV writes the true error of each host, clock minus true time, once a second:
// a row a second and run, with the run's seed, the time since the start, and a column
// in seconds for each host. The runs must have been made with Options.Series.
func (r *Result) WriteCSV(w io.Writer) error {
	out := bufio.NewWriter(w)
	names := make([]string, len(r.Hosts))
	for i := range r.Hosts {
		names[i] = r.Hosts[i].Name
	}
	// Errors of a bufio.Writer stick: Flush reports the first.
	_, _ = out.WriteString("seed,time," + strings.Join(names, ",") + "\n")
	var line []byte
	for run := range r.Scenario.Runs {
		for k := range r.Hosts[0].Runs[run].series {
			line = strconv.AppendUint(line[:0], r.Hosts[0].Runs[run].Seed, 10)
			line = strconv.AppendInt(append(line, ','), int64(k), 10)
			for i := range r.Hosts {
				line = strconv.AppendFloat(append(line, ','), r.Hosts[i].Runs[run].series[k], 'e', 6, 64)
			}
			_, _ = out.Write(append(line, '\n'))
		}
	}
	return out.Flush()
}

// WriteSVG draws the true error of each host over the first run, with the events marked.
// The run must have been made with Options.Series.
func (r *Result) WriteSVG(w io.Writer) error {
	drawn := picture.Run{Scenario: r.Scenario}
	for i := range r.Hosts {
		first := &r.Hosts[i].Runs[0]
		host := picture.Host{Name: r.Hosts[i].Name, Errors: first.series, RMSError: first.Figures.RMSError}
		for _, m := range first.marks {
			host.Marks = append(host.Marks, picture.Mark{At: m.at, What: m.what})
		}
		drawn.Hosts = append(drawn.Hosts, host)
	}
	return drawn.Write(w)
}
