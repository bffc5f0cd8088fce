package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

func newAssociations() *cobra.Command {
	return report[control.Associations]{
		use:     "associations",
		short:   "Every association with its mode, state and counters",
		request: control.Request{Command: control.CommandAssociations},
		print:   printAssociations,
	}.command()
}

func printAssociations(w io.Writer, r *control.Associations) error {
	var t table
	t.row("ID", "NAME", "ADDRESS", "MODE", "PEER MODE", "KIND", "VERSION", "POLL", "PEER POLL", "REACH", "KEY", "SENT", "ACCEPTED", "REFUSED", "INTERFACE")
	for i := range r.Associations {
		a := &r.Associations[i]
		kind := "static"
		if a.Dynamic {
			kind = "dynamic"
		}
		remoteMode, remotePoll, reach := a.RemoteMode, fmt.Sprint(a.RemotePoll), reachBits(a.Reach)
		if a.LastPacketAge == nil { // nobody has been heard, or nobody can be
			remoteMode, remotePoll = "-", "-"
		}
		if a.Mode == broadcastMode {
			reach = "-"
		}
		t.row(fmt.Sprint(a.ID), bareName(a.Name, a.Address), a.Address, a.Mode, remoteMode, kind, fmt.Sprint(a.Version),
			fmt.Sprint(a.Poll), remotePoll, reach, keyName(a.Key), fmt.Sprint(a.Sent), fmt.Sprint(a.Accepted),
			counts(a.Rejected, a.Kisses), a.Interface)
	}
	if err := t.print(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d associations\n", len(r.Associations))
	return err
}

// broadcastMode is the mode of what only sends.
const broadcastMode = "broadcast"

func keyName(id uint32) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprint(id)
}

// counts prints what was counted, by name.
func counts(maplist ...map[string]uint64) string {
	var parts []string
	for _, m := range maplist {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
		}
	}
	if len(parts) == 0 {
		return "-"
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
	t.row("SERVER", "STRATUM", "OFFSET", "DELAY", "SYNC DISTANCE", "REFERENCE")
	for _, s := range r.Steps {
		if s.Error != "" {
			t.row(s.Address, "?", s.Error)
			continue
		}
		distance := (s.RootDelay+s.Delay)/2 + s.RootDispersion
		t.row(s.Address, fmt.Sprint(s.Stratum), formatOffset(s.Offset), formatTime(s.Delay), formatTime(distance), s.ReferenceID)
	}
	return t.print(w)
}
