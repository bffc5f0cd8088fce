package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

func newExplain() *cobra.Command {
	return report[control.Explain]{
		use:         "explain [SOURCE]",
		short:       "Why each source is or is not used",
		long:        "The chain of tests that each source went through, with the numbers found, their limits\nand what would change the verdict. SOURCE is a name, an address or a number.",
		request:     control.Request{Command: control.CommandExplain},
		takesSource: true,
		print:       printExplain,
	}.command()
}

func printExplain(w io.Writer, e *control.Explain) error {
	if len(e.Sources) == 0 {
		_, err := fmt.Fprintln(w, "no sources")
		return err
	}
	for i, s := range e.Sources {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s %s: %s\n  %s\n", stateMarks[s.State], nameAt(s.Name, s.Address), s.State, s.Reason)
		var t table
		for _, c := range s.Checks {
			t.row(checkRow(&c)...)
		}
		if err := t.print(w); err != nil {
			return err
		}
	}
	return nil
}

// checkRow shows a test's numbers, and what to do where it failed.
func checkRow(c *control.Check) []string {
	if c.Passed {
		return []string{"    ok", c.Name, checkNumbers(c)}
	}
	return []string{"    NO", c.Name, checkNumbers(c), c.Text}
}

// checkNumbers is what was found and what it was measured against. Tests of yes or no
// have no numbers.
func checkNumbers(c *control.Check) string {
	switch {
	case c.Unit == "" && c.Value == 0 && c.Limit == 0:
		return ""
	case c.Unit == "s":
		return formatTime(c.Value) + ", limit " + formatTime(c.Limit)
	}
	return strings.TrimSpace(fmt.Sprintf("%g, limit %g %s", c.Value, c.Limit, c.Unit))
}
