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
		paragraph(w, stateMarks[s.State]+" "+nameAt(s.Name, s.Address)+":", s.State, 2)
		paragraph(w, "  ", s.Reason, 2)
		width := 0
		for i := range s.Checks {
			width = max(width, len(s.Checks[i].Name))
		}
		for i := range s.Checks {
			printCheck(w, &s.Checks[i], width)
		}
	}
	return nil
}

// printCheck prints a mark, the test's name and what it found, in words.
func printCheck(w io.Writer, c *control.Check, width int) {
	mark := "NO"
	if c.Passed {
		mark = "ok"
	}
	head := fmt.Sprintf("    %s  %-*s  ", mark, width, c.Name)
	paragraph(w, head, c.Text, len(head))
}
