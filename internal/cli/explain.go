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
		fmt.Fprintf(w, "%s %s (%s): %s\n  %s\n", stateMarks[s.State], s.Name, s.Address, s.State, s.Reason)
		var t table
		for _, c := range s.Checks {
			mark := "ok"
			if !c.Passed {
				mark = "NO"
			}
			t.row("    "+mark, c.Name, c.Text)
		}
		if err := t.print(w); err != nil {
			return err
		}
	}
	return nil
}
