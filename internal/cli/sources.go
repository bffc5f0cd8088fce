package cli

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"timeball/internal/config"
	"timeball/internal/control"
)

func newSources() *cobra.Command {
	verbose := false
	return report[control.Sources]{
		use:     "sources",
		short:   "A row a source: mode, verdict, last sample, offset and error",
		long:    "A row a source. " + offsetLegend + "\nREACH is the register of the last eight polls in octal, the newest lowest: 377 is all answered.",
		request: control.Request{Command: control.CommandSources},
		flags: func(cmd *cobra.Command, r *control.Request) {
			cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also the last samples of each source, and why it is where it is")
		},
		print: func(w io.Writer, s *control.Sources) error { return printSources(w, s, verbose) },
	}.command()
}

// stateMarks stand before a source, so that the eye finds the ones in use.
var stateMarks = map[string]string{
	"selected": "*", "combined": "+", "survivor": "-", "outlier": "~", "falseticker": "x",
	"distant": "d", "unsynchronized": "!", "unreachable": "?", "excluded": ".", "waiting": " ",
}

func printSources(w io.Writer, s *control.Sources, verbose bool) error {
	if len(s.Sources) == 0 {
		_, err := fmt.Fprintln(w, "no sources")
		return err
	}
	t := table{wide: verbose}
	for _, row := range append([][]string{sourceHead}, sourceRows(s)...) {
		if !verbose { // mode, delay and jitter are for those who ask
			row = append(slices.Clone(row[:1]), row[2:9]...)
		}
		t.row(row...)
	}
	if err := t.print(w); err != nil {
		return err
	}
	if !verbose {
		printReasons(w, s, false)
		return nil
	}
	for i := range s.Sources {
		if err := printSource(w, &s.Sources[i]); err != nil {
			return err
		}
	}
	return nil
}

// offsetLegend says what the sign of every offset means.
const offsetLegend = "Offsets are reference - local: a positive one means that our clock is behind."

var sourceHead = []string{"  SOURCE", "MODE", "STATE", "ST", "POLL", "REACH", "LAST", "OFFSET", "ERROR", "DELAY", "JITTER"}

func sourceRows(s *control.Sources) (rows [][]string) {
	for i := range s.Sources {
		rows = append(rows, sourceRow(&s.Sources[i]))
	}
	return rows
}

// printReasons says of each source that is not in use why, and what to do; or of all.
func printReasons(w io.Writer, s *control.Sources, all bool) {
	blank := "\n"
	for i := range s.Sources {
		r := &s.Sources[i]
		if !all && (r.State == "selected" || r.State == "combined") || r.Reason == "" {
			continue
		}
		fmt.Fprint(w, blank)
		blank = ""
		paragraph(w, stateMarks[r.State]+" "+label(r)+":", r.Reason, 4)
	}
}

func sourceRow(s *control.Source) []string {
	row := []string{stateMarks[s.State] + " " + label(s), s.Mode, s.State, "-", formatInterval(s.Interval), reach(s.Reach), "-", "-", "-", "-", "-"}
	if s.Stratum < 16 {
		row[3] = fmt.Sprint(s.Stratum)
	}
	if s.LastSampleAge != nil {
		row[6] = formatAge(*s.LastSampleAge)
	}
	if s.Samples > 0 {
		row[7], row[8], row[9], row[10] = formatOffset(s.Offset), "± "+formatTime(s.Error), formatTime(s.Delay), formatTime(s.Jitter)
	}
	return row
}

// label is the name of a source, with its address where the name is not it.
func label(s *control.Source) string {
	return nameAt(s.Name, s.Address)
}

// nameAt is a source's name, with its address where the name does not say it. The port
// stands there once, and not at all if it is NTP's.
func nameAt(name, address string) string {
	where, err := netip.ParseAddrPort(address)
	if err != nil {
		return name
	}
	bare := bareName(name, address)
	port := ""
	if where.Port() != config.NTPPort {
		port = ":" + strconv.Itoa(int(where.Port()))
	}
	host := where.Addr().String()
	switch {
	case bare == host && port == "":
		return host
	case bare == host:
		return where.String()
	case strings.Contains(bare, " "+host): // what listens or sends to a group names it
		return bare
	case port == "":
		return bare + " (" + host + ")"
	}
	return bare + " (" + where.String() + ")"
}

// bareName is a source's name without the port that its address has too.
func bareName(name, address string) string {
	where, err := netip.ParseAddrPort(address)
	if err != nil {
		return name
	}
	bare, found := strings.CutSuffix(name, ":"+strconv.Itoa(int(where.Port())))
	if !found || strings.Contains(bare, ":") && !strings.HasPrefix(bare, "[") {
		return name // an IPv6 address that ends so has no port
	}
	return strings.Trim(bare, "[]")
}

// reach is the reachability register as the field writes it: octal, the newest poll lowest.
func reach(register int) string { return fmt.Sprintf("%03o", register) }

// printSource prints what does not fit into a row.
func printSource(w io.Writer, s *control.Source) error {
	if s.Samples == 0 {
		fmt.Fprintf(w, "\n%s: not measured yet: %s\n", label(s), s.Reason)
		printSecurity(w, s.Security)
		if s.ReferenceID == "" {
			return nil
		}
	} else {
		fmt.Fprintf(w, "\n%s: %s\n", label(s), s.Reason)
	}
	fmt.Fprintf(w, "  reference id %s, leap %s, root delay %s, root dispersion %s", s.ReferenceID, s.Leap, formatTime(s.RootDelay), formatTime(s.RootDispersion))
	if s.Samples > 0 {
		fmt.Fprintf(w, ", shortest delay %s, weight %.0f %%", formatTime(s.MinDelay), 100*s.Weight)
	}
	if s.Timestamps != "" {
		fmt.Fprintf(w, ", %s timestamps", s.Timestamps)
	}
	fmt.Fprintln(w)
	printSecurity(w, s.Security)
	return printFilter(w, s.Filter)
}

// printSecurity says how a source with NTS has its keys.
func printSecurity(w io.Writer, n *control.Security) {
	if n == nil {
		return
	}
	fmt.Fprintf(w, "  NTS: %s, %d cookies", n.State, n.Cookies)
	if n.AEAD != "" {
		fmt.Fprintf(w, ", %s", n.AEAD)
	}
	if n.CertificateExpires != "" {
		fmt.Fprintf(w, ", certificate until %s", n.CertificateExpires)
	}
	if n.Undated {
		fmt.Fprint(w, ", whose dates are not checked yet")
	}
	fmt.Fprintf(w, "; %d key exchanges\n", n.Exchanges)
	if n.FailureKind != "" {
		fmt.Fprintf(w, "  the last key exchange failed (%s): %s\n", n.FailureKind, n.Failure)
	}
}

// printFilter prints the last samples of a source, the newest first.
func printFilter(w io.Writer, samples []control.FilterSample) error {
	if len(samples) == 0 {
		return nil
	}
	var t table
	t.row("  AGE", "OFFSET", "ERROR", "DELAY")
	for _, f := range samples {
		t.row("  "+formatAge(f.Age), formatOffset(f.Offset), "± "+formatTime(f.Error), formatTime(f.Delay))
	}
	return t.print(w)
}
