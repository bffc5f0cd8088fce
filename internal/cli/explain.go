package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

func newExplain() *cobra.Command {
	return report[control.Explain]{
		use:         "explain [SOURCE]",
		short:       "Why each source is or is not used",
		long:        "The chain of tests that each source went through, with the numbers found and their limits;\nat the one that failed, what would change the verdict. SOURCE is a name, an address or a number.",
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

// checkRow is a mark, the test's name and what it found, in words.
func checkRow(c *control.Check) []string {
	mark := "    NO"
	if c.Passed {
		mark = "    ok"
	}
	return []string{mark, c.Name, c.Text}
}
