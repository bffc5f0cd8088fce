package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

func newAssociations() *cobra.Command {
	verbose := false
	return report[control.Associations]{
		use:   "associations",
		short: "Every association with its mode, state and counters",
		long: "Every association, static or mobilized by operation, with the modes of both sides, the\nverdict, polls, key and counters. REFUSED counts the packets that failed a test;\n--verbose says which, and the kiss codes." +
			" A broadcast\nserver only sends, so nothing is judged.",
		request: control.Request{Command: control.CommandAssociations},
		flags: func(cmd *cobra.Command, _ *control.Request) {
			cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also each one's poll interval, counters and eight filter samples")
		},
		print: func(w io.Writer, r *control.Associations) error { return printAssociations(w, r, verbose) },
	}.command()
}

func printAssociations(w io.Writer, r *control.Associations, verbose bool) error {
	t := table{wide: verbose}
	if verbose {
		t.row("ID", "NAME", "ADDRESS", "MODE", "PEER MODE", "STATE", "KIND", "VERSION", "POLL", "PEER POLL", "REACH", "KEY", "SENT", "ACCEPTED", "REFUSED", "INTERFACE")
	} else {
		t.row("ASSOCIATION", "MODE", "STATE", "POLL", "REACH", "SENT", "ACCEPTED", "REFUSED")
	}
	for i := range r.Associations {
		if a := &r.Associations[i]; verbose {
			t.row(associationRow(a)...)
		} else {
			full := associationRow(a)
			t.row(nameAt(a.Name, a.Address), full[3], full[5], full[8], full[10], full[12], full[13], fmt.Sprint(refusedPackets(a)))
		}
	}
	if err := t.print(w); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s\n", plural(len(r.Associations), "association")); err != nil || !verbose {
		return err
	}
	for i := range r.Associations {
		if err := printAssociation(w, &r.Associations[i]); err != nil {
			return err
		}
	}
	return nil
}

// refusedPackets is how many of an association's packets were refused, for any reason.
func refusedPackets(a *control.Association) (sum uint64) {
	for _, n := range a.Rejected { //order: a sum
		sum += n
	}
	return sum
}

func associationRow(a *control.Association) []string {
	remoteMode, remotePoll, register := a.RemoteMode, formatInterval(math.Ldexp(1, a.RemotePoll)), reach(a.Reach)
	if a.LastPacketAge == nil { // nobody has been heard, or nobody can be
		remoteMode, remotePoll = "-", "-"
	}
	if a.Mode == broadcastMode {
		register = "-"
	}
	return []string{fmt.Sprint(a.ID), bareName(a.Name, a.Address), a.Address, a.Mode, remoteMode, a.State, kind(a), fmt.Sprint(a.Version),
		formatInterval(a.Interval), remotePoll, register, keyName(a.Key), fmt.Sprint(a.Sent), fmt.Sprint(a.Accepted),
		counts(a.Rejected, a.Kisses), a.Interface}
}

func kind(a *control.Association) string {
	if a.Dynamic {
		return "dynamic"
	}
	return "static"
}

// printAssociation prints what does not fit into a row.
func printAssociation(w io.Writer, a *control.Association) error {
	fmt.Fprintf(w, "\n%s: %s, %s, %s\n", nameAt(a.Name, a.Address), a.Mode, kind(a), a.State)
	if a.Mode == broadcastMode {
		_, err := fmt.Fprintf(w, "  packets: %d sent, one every %s\n", a.Sent, formatInterval(a.Interval))
		return err
	}
	last := "none yet"
	if a.LastPacketAge != nil {
		last = formatAge(*a.LastPacketAge) + " ago"
	}
	fmt.Fprintf(w, "  packets: %d sent, %d accepted, the last %s; polled every %s, %s unanswered since\n",
		a.Sent, a.Accepted, last, formatInterval(a.Interval), plural(a.Unanswered, "poll"))
	fmt.Fprintf(w, "  refused: %s; kiss codes: %s", counts(a.Rejected), counts(a.Kisses))
	if a.Denied {
		fmt.Fprint(w, "; it wants no packets, none are sent")
	}
	fmt.Fprintln(w)
	return printFilter(w, a.Filter)
}

// broadcastMode is the mode of what only sends.
const broadcastMode = "broadcast"

func keyName(id uint32) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprint(id)
}

// none stands for nothing counted.
const none = "-"

// counts prints what was counted, by name.
func counts(maplist ...map[string]uint64) string {
	var parts []string
	for _, m := range maplist {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
		}
	}
	if len(parts) == 0 {
		return none
	}
	return strings.Join(parts, ", ")
}

func newTrace() *cobra.Command {
	return report[control.Trace]{
		use:     "trace",
		short:   "The chain of servers up to the primary reference",
		request: control.Request{Command: control.CommandTrace},
		print:   printTrace,
	}.command()
}

func printTrace(w io.Writer, r *control.Trace) error {
	if len(r.Steps) == 0 {
		_, err := fmt.Fprintln(w, "no system peer, so no chain")
		return err
	}
	var t table
	t.row("SERVER", "ST", "OFFSET", "DELAY", "ROOT DISTANCE", "REFERENCE")
	for _, s := range r.Steps {
		if s.Error != "" {
			t.row(cmp.Or(s.Address, "?"), "?", s.Error)
			continue
		}
		distance := (s.RootDelay+s.Delay)/2 + s.RootDispersion
		t.row(s.Address, fmt.Sprint(s.Stratum), formatOffset(s.Offset), formatTime(s.Delay), formatTime(distance), s.ReferenceID)
	}
	return t.print(w)
}
