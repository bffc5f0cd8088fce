package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

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
	printMachine(w, s.Machine)
	paragraph(w, served(s.Machine), fmt.Sprintf("%s, %s; last update %s", offsetWords(s.Offset), errorAtMost(s.ErrorBound), ago(s.LastUpdateAge)), 2)
	fmt.Fprintln(w, frequencyWords(s.Frequency))
	if s.Rival {
		fmt.Fprintln(w, "SOMEBODY ELSE KEEPS SETTING THE CLOCK; the log says who it may be, and one of the two has to go")
	}
	if s.Daemon.ReloadError != "" {
		paragraph(w, "THE LAST RELOAD WAS REFUSED, the configuration before is in force:", s.Daemon.ReloadError, 2)
	}
	printNotListening(w, s.Daemon.NotListening)
	printNTSServer(w, s.Daemon.NTS)
	printTimestamps(w, s.Sources)
	printFastPath(w, s.Daemon.FastPath)
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

// printMachine says how wrong the machine's clock is where it is only observed.
func printMachine(w io.Writer, m *control.Machine) {
	if m != nil {
		paragraph(w, "THE MACHINE'S CLOCK IS ONLY OBSERVED:", offsetWords(m.Offset)+", "+errorAtMost(m.ErrorBound), 2)
	}
}

// served stands before the offset of the time that is worked out where it is not the
// machine's clock.
func served(m *control.Machine) string {
	if m == nil {
		return ""
	}
	return "time worked out and served: "
}

// offsetWords are an offset with what its sign means.
func offsetWords(seconds float64) string {
	text := formatOffset(seconds)
	switch {
	case seconds > 0:
		return "offset " + text + " (clock behind)"
	case seconds < 0:
		return "offset " + text + " (clock ahead)"
	}
	return "offset " + text
}

// frequencyWords are a correction of the oscillator with what its sign means.
func frequencyWords(ratio float64) string {
	text := fmt.Sprintf("frequency %+.3f ppm", ratio*1e6)
	switch {
	case ratio > 0:
		return text + " (the oscillator is slow)"
	case ratio < 0:
		return text + " (the oscillator is fast)"
	}
	return text
}

// printNotListening names the addresses at which nothing is served.
func printNotListening(w io.Writer, list []control.NotListening) {
	for _, l := range list {
		paragraph(w, "NOTHING IS SERVED AT "+l.Address+":", l.Reason, 2)
	}
}

// panicWords say what was refused.
func panicWords(t *control.Tracking) string {
	return fmt.Sprintf("a correction of %s is beyond clock.panic and was refused; if the sources are right: timeball accept-correction %s",
		formatOffset(t.PanicOffset), strings.ReplaceAll(formatOffset(t.PanicOffset), " ", ""))
}

// expiresSoon is when the end of a certificate is worth capitals.
const expiresSoon = 7 * 24 * time.Hour

// printNTSServer says how the key exchange of NTS does, where there is one.
func printNTSServer(w io.Writer, n *control.NTSServer) {
	if n == nil {
		return
	}
	fmt.Fprintf(w, "NTS key exchange at %s: %d done, certificate until %s, cookie key %s old\n",
		strings.Join(n.Addresses, ", "), n.Exchanges, n.CertificateExpires, formatAge(n.KeyAge))
	if n.CertificateError != "" {
		fmt.Fprintf(w, "THE NTS CERTIFICATE WAS NOT READ AGAIN: %s\n", n.CertificateError)
	}
	if end, err := time.Parse(time.RFC3339, n.CertificateExpires); err == nil && time.Until(end) < expiresSoon {
		fmt.Fprintf(w, "THE NTS CERTIFICATE ENDS SOON: renew it\n")
	}
}

// headline says in one line whether the clock can be trusted.
func headline(t *control.Tracking) string {
	switch {
	case t.PanicOffset != 0:
		return "NOT SYNCHRONIZED: " + panicWords(t)
	case !t.Synchronized:
		return "NOT SYNCHRONIZED (" + t.State + ")"
	case t.Source != "":
		return fmt.Sprintf("synchronized to %s, stratum %d", nameAt(t.Source, t.Address), t.Stratum)
	case t.State == "holdover":
		return fmt.Sprintf("holding over without a source, stratum %d", t.Stratum)
	}
	return fmt.Sprintf("serving the local clock (%s), stratum %d", t.ReferenceID, t.Stratum)
}

// printTimestamps says who takes our timestamps, and of how many sources: hardware where
// the NIC does on both ways, kernel, or the daemon itself.
func printTimestamps(w io.Writer, sources []control.Source) {
	count := map[string]int{}
	for i := range sources {
		count[sources[i].Timestamps]++
	}
	var words []string
	for _, kind := range []string{"hardware", "kernel", "daemon"} {
		switch n := count[kind]; {
		case n == 1:
			words = append(words, kind+" (1 source)")
		case n > 1:
			words = append(words, fmt.Sprintf("%s (%d sources)", kind, n))
		}
	}
	if len(words) > 0 {
		fmt.Fprintf(w, "timestamps by %s\n", strings.Join(words, ", "))
	}
}

// printFastPath says where requests are answered in the driver, and where that failed.
func printFastPath(w io.Writer, f *control.FastPath) {
	if f == nil {
		return
	}
	for _, a := range f.Attached {
		fmt.Fprintf(w, "requests at %s are answered in the driver (XDP, %s): %d so far\n", a.Interface, a.Mode, f.Answered)
	}
	if f.Workers > 0 {
		fmt.Fprintf(w, "requests with NTS or a key pass by the kernel's UDP (AF_XDP, %d queues): %d so far\n", f.Workers, f.Redirected)
	}
	for _, why := range f.Failed {
		fmt.Fprintf(w, "NOT ANSWERED IN THE DRIVER: %s\n", why)
	}
}
