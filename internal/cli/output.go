package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"timeball/internal/control"
)

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// screenColumns is the width of what is printed for people without --verbose.
const screenColumns = 80

// table collects rows and prints them aligned.
type table struct {
	rows [][]string
	wide bool // may be wider than screenColumns
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the rows; no line ends in blanks. A row of one cell ends a block of columns.
// A first cell that would make the table wider than a screen stands in a line of its own,
// above the rest of its row.
func (t *table) print(w io.Writer) error {
	for begin := 0; begin < len(t.rows); {
		end := begin
		for end < len(t.rows) && len(t.rows[end]) > 1 {
			end++
		}
		if err := t.printBlock(w, t.rows[begin:end]); err != nil {
			return err
		}
		for ; end < len(t.rows) && len(t.rows[end]) <= 1; end++ {
			if _, err := fmt.Fprintln(w, strings.TrimRight(strings.Join(t.rows[end], ""), " ")); err != nil {
				return err
			}
		}
		begin = end
	}
	return nil
}

func (t *table) printBlock(w io.Writer, rows [][]string) error {
	widths := t.widths(rows)
	for _, cells := range rows {
		line := ""
		for i, cell := range cells {
			missing := widths[i] - utf8.RuneCountInString(cell)
			if i == 0 && missing < 0 {
				line = strings.TrimRight(cell, " ") + "\n"
				cell, missing = "", widths[i]
			}
			line += cell
			if i < len(cells)-1 {
				line += strings.Repeat(" ", max(missing, 0)+gap)
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// gap is how many blanks stand between two columns.
const gap = 2

// widths are those of the columns; the first one's is no more than the others leave.
func (t *table) widths(rows [][]string) (widths []int) {
	for _, cells := range rows {
		for i, cell := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	room := screenColumns
	for i := 1; i < len(widths); i++ {
		room -= widths[i] + gap
	}
	if room = max(room, shortestName); !t.wide && len(widths) > 0 && widths[0] > room {
		widths[0] = 0 // of those that fit
		for _, cells := range rows {
			if width := utf8.RuneCountInString(cells[0]); width <= room {
				widths[0] = max(widths[0], width)
			}
		}
	}
	return widths
}

// shortestName is what the first column has at least.
const shortestName = 8

// paragraph prints text in lines of a screen's width, the first one after head, the others
// indented by so many columns.
func paragraph(w io.Writer, head, text string, indent int) {
	line := head
	for _, word := range strings.Fields(text) {
		blank := ""
		if line != "" && !strings.HasSuffix(line, " ") {
			blank = " "
		}
		if utf8.RuneCountInString(line)+len(blank)+utf8.RuneCountInString(word) > screenColumns && strings.TrimSpace(line) != "" {
			fmt.Fprintln(w, strings.TrimRight(line, " "))
			line, blank = strings.Repeat(" ", indent), ""
		}
		line += blank + word
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}

// formatOffset prints seconds in the unit that leaves one to three digits before
// the point, with a sign: +1.234 ms.
func formatOffset(seconds float64) string {
	if seconds < 0 {
		return "-" + formatTime(-seconds)
	}
	return "+" + formatTime(math.Abs(seconds)) // -0 too
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
