package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/bound"
	"timeball/internal/control"
)

func newNow() *cobra.Command {
	return report[bound.Now]{
		use:   "now",
		short: "Between which two moments the time is",
		long: "Print the earliest and the latest that UTC may be, by the daemon's clock and its\n" +
			"error bound, and how far that can be relied on. Exit 1 where nothing is known.",
		request: control.Request{Command: control.CommandNow},
		print:   printNow,
	}.command()
}

func printNow(w io.Writer, n *bound.Now) error {
	var out table
	out.row("Earliest", nanoseconds(n.EarliestNanoseconds))
	out.row("Latest", nanoseconds(n.LatestNanoseconds))
	out.row("Status", fmt.Sprintf("%s, ± %s", n.Status, formatTime(n.Error)))
	if err := out.print(w); err != nil {
		return err
	}
	if n.Status == bound.Unknown {
		return errUnknownTime
	}
	return nil
}

// errUnknownTime is the exit status of a time of which nothing is known.
var errUnknownTime = errors.New("nothing is known of the time: not synchronized, or the clock was set since the last measurement; see timeball status")

func nanoseconds(ns int64) string {
	return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05.000000000 UTC")
}
