package association

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

var update = flag.Bool("update", false, "write the traces in testdata anew")

// trace writes down what hosts send and what comes of it. A timestamp has a name: who
// made it and its number, so that a reader sees which field answers which. Nil writes
// nothing.
type trace struct {
	w     *world
	text  strings.Builder
	names map[ntptime.Timestamp]string
	count map[string]int
	at    time.Duration // of the last line
}

func newTrace(w *world) *trace {
	w.trace = &trace{w: w, names: map[ntptime.Timestamp]string{0: "0"}, count: map[string]int{}, at: -1}
	return w.trace
}

// say writes a heading.
func (r *trace) say(format string, args ...any) {
	fmt.Fprintf(&r.text, "\n# "+format+"\n", args...)
	r.at = -1
}

// line writes one line; the time stands where it is another one.
func (r *trace) line(format string, args ...any) {
	when := ""
	if r.w.now != r.at {
		when = fmt.Sprintf("%.3f s", r.w.now.Seconds())
		r.at = r.w.now
	}
	text := fmt.Sprintf("%12s  "+format, append([]any{when}, args...)...)
	r.text.WriteString(strings.TrimRight(text, " ") + "\n")
}

// nameOf is the letter of a host: a, b, c in the order of the world.
func (r *trace) nameOf(h *host) string { return string(rune('a' + index(r.w.hosts, h))) }

func index(hosts []*host, h *host) int {
	for i := range hosts {
		if hosts[i] == h {
			return i
		}
	}
	return -1
}

func (r *trace) ends(f flight) (from, to string) {
	from, to = "?", f.to.Addr().String()
	for _, h := range r.w.hosts {
		if h.end.Addr() == f.from.Addr() {
			from = r.nameOf(h)
		}
		if h.end.Addr() == f.to.Addr() {
			to = r.nameOf(h)
		}
	}
	return from, to
}

// timestamp names a timestamp of a packet from somebody.
func (r *trace) timestamp(t ntptime.Timestamp, from string) string {
	name := r.names[t]
	if name == "" {
		r.count[from]++
		name = fmt.Sprintf("%s%d", from, r.count[from])
		r.names[t] = name
	}
	return name
}

// packet writes a packet that leaves.
func (r *trace) packet(f flight, fate string) {
	if r == nil {
		return
	}
	var p wire.Packet
	if defect := p.Decode(f.data); defect != wire.DefectNone {
		r.line("? malformed: %v", defect)
		return
	}
	from, to := r.ends(f)
	who := from
	if f.forged {
		from, who = "forger as "+from, "f"
	}
	state := fmt.Sprintf("stratum %d %s", p.Stratum, p.ReferenceID.Format(p.Stratum))
	switch {
	case p.Mode == wire.ModeClient:
		state = ""
	case p.Leap == wire.LeapUnknown && p.Stratum == 0 && p.ReferenceID != 0:
		state = "kiss " + p.ReferenceID.Text()
	case p.Leap == wire.LeapUnknown:
		state = "no time"
	}
	signed := ""
	if p.HasMAC {
		signed = fmt.Sprintf(" key %d", p.KeyID)
	}
	r.line("%s -> %s  mode %d v%d poll %d  org %s rec %s xmt %s  %s%s %s", from, to, p.Mode, p.Version, p.Poll,
		r.timestamp(p.Origin, who), r.timestamp(p.Receive, who), r.timestamp(p.Transmit, who), state, signed, fate)
}

// output writes what an association wants done, but for what it sends.
func (r *trace) output(h *host, out *Output) {
	if r == nil {
		return
	}
	for _, e := range out.Events {
		text := e.Kind.String()
		if e.Text != "" {
			text += ": " + e.Text
		}
		r.line("    %s: %s", r.nameOf(h), text)
	}
	if s := &out.Sample; out.HasSample {
		what := "sample"
		if s.Interleaved {
			what = "interleaved sample"
		}
		r.line("    %s: %s, offset %s", r.nameOf(h), what, offsetOf(s).Round(time.Microsecond))
	}
	if out.Done {
		r.line("    %s: the association ends: %s", r.nameOf(h), out.Reason)
	}
}

// refusals writes which test a packet failed.
func (r *trace) refusals(h *host, before, after *[model.RejectReasons]uint64) {
	if r == nil {
		return
	}
	for reason := range after {
		if after[reason] != before[reason] {
			r.line("    %s: refused: %s", r.nameOf(h), model.RejectReason(reason))
		}
	}
}

// golden compares a trace with testdata/NAME.txt, or writes it there.
func (r *trace) golden(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	got := strings.TrimLeft(r.text.String(), "\n")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range gotLines {
		if i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d: got\n%s\nwant\n%s\n(go test -update writes it anew; read what has changed)", path, i+1, gotLines[i], at(wantLines, i))
		}
	}
	t.Fatalf("%s: got %d lines, want %d", path, len(gotLines), len(wantLines))
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}
