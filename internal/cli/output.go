package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"timeball/internal/control"
)

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// table collects rows and prints them aligned.
type table struct{ rows [][]string }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the rows; no line ends in blanks.
func (t *table) print(w io.Writer) error {
	var text strings.Builder
	aligned := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, cells := range t.rows {
		fmt.Fprintln(aligned, strings.Join(cells, "\t"))
	}
	if err := aligned.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// formatOffset prints seconds in the unit that leaves one to three digits before
// the point, with a sign: +1.234 ms.
func formatOffset(seconds float64) string {
	if seconds >= 0 {
		return "+" + formatTime(seconds)
	}
	return "-" + formatTime(-seconds)
}

// formatTime prints seconds of zero or more in a fitting unit.
func formatTime(seconds float64) string {
	switch {
	case math.IsNaN(seconds) || math.IsInf(seconds, 0):
		return "?"
	case seconds < 0:
		return "-" + formatTime(-seconds)
	case seconds < 1e-6:
		return fmt.Sprintf("%.0f ns", seconds*1e9)
	case seconds < 1e-3:
		return fmt.Sprintf("%.2f µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.3f ms", seconds*1e3)
	case seconds < 1000:
		return fmt.Sprintf("%.3f s", seconds)
	}
	return (time.Duration(seconds) * time.Second).String()
}

// formatBound prints an error bound.
func formatBound(b control.Bound) string {
	if !b.Known() {
		return "unknown"
	}
	return formatTime(float64(b))
}

// formatAge prints how long ago something was, in two units at most: 12s, 3m20s, 2h5m.
func formatAge(seconds float64) string {
	switch {
	case math.IsNaN(seconds) || math.IsInf(seconds, 0) || seconds < 0:
		return "-"
	case seconds < 100:
		return fmt.Sprintf("%.0fs", seconds)
	case seconds < 2*3600:
		return fmt.Sprintf("%dm%02ds", int(seconds)/60, int(seconds)%60)
	case seconds < 48*3600:
		return fmt.Sprintf("%dh%02dm", int(seconds)/3600, int(seconds)/60%60)
	}
	return fmt.Sprintf("%dd%02dh", int(seconds)/86400, int(seconds)/3600%24)
}

// formatInterval prints a poll interval; those below a second in a fitting unit.
func formatInterval(seconds float64) string {
	if seconds > 0 && seconds < 1 {
		return fmt.Sprintf("%.0fms", seconds*1e3)
	}
	return formatAge(seconds)
}

// plural is "1 poll", "2 polls".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
