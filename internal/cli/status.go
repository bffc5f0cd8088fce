package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

func newStatus() *cobra.Command {
	return report[control.Status]{
		use:     "status",
		short:   "One screen: synchronized or not, to whom, how well, and the sources",
		request: control.Request{Command: control.CommandStatus},
		print:   printStatus,
	}.command()
}

func printStatus(w io.Writer, s *control.Status) error {
	fmt.Fprintln(w, headline(&s.Tracking))
	fmt.Fprintf(w, "offset %s, %s; frequency %+.3f ppm; last update %s\n",
		formatOffset(s.Offset), errorAtMost(s.ErrorBound), s.Frequency*1e6, ago(s.LastUpdateAge))
	if s.Daemon.ReloadError != "" {
		fmt.Fprintf(w, "THE LAST RELOAD WAS REFUSED, the configuration before is in force: %s\n", s.Daemon.ReloadError)
	}
	printNotListening(w, s.Daemon.NotListening)
	fmt.Fprintf(w, "timeball %s, up %s, clock %s\n\n", s.Daemon.Version, formatAge(s.Daemon.Uptime), s.Daemon.Clock)
	return printSources(w, &control.Sources{Sources: s.Sources}, false)
}

// errorAtMost says how wrong the clock may be.
func errorAtMost(b control.Bound) string {
	if !b.Known() {
		return "error not known"
	}
	return "error at most " + formatBound(b)
}

// printNotListening names the addresses at which nothing is served.
func printNotListening(w io.Writer, list []control.NotListening) {
	for _, l := range list {
		fmt.Fprintf(w, "NOTHING IS SERVED AT %s: %s\n", l.Address, l.Reason)
	}
}

// headline says in one line whether the clock can be trusted.
func headline(t *control.Tracking) string {
	switch {
	case t.PanicOffset != 0:
		return fmt.Sprintf("NOT SYNCHRONIZED: a correction of %s is beyond clock.panic and was refused", formatOffset(t.PanicOffset))
	case !t.Synchronized:
		return "NOT SYNCHRONIZED (" + t.State + ")"
	case t.Source != "":
		return fmt.Sprintf("synchronized to %s, stratum %d", nameAt(t.Source, t.Address), t.Stratum)
	case t.State == "holdover":
		return fmt.Sprintf("holding over without a source, stratum %d", t.Stratum)
	}
	return fmt.Sprintf("serving the local clock (%s), stratum %d", t.ReferenceID, t.Stratum)
}
