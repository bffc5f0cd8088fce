package association

import (
	"fmt"
	"slices"
	"time"

	"timeball/internal/model"
	"timeball/internal/wire"
	"timeball/test/golden"
)

// trace writes down what hosts send and what comes of it. Nil writes nothing.
type trace struct {
	golden.Trace
	w *world
}

func newTrace(w *world) *trace {
	w.trace = &trace{Trace: golden.Trace{Width: 12, Digits: 3}, w: w}
	return w.trace
}

// ntsFields are the extension fields of NTS (RFC 8915 §5).
var ntsFields = map[uint16]string{0x0104: "identifier", 0x0204: "cookie", 0x0304: "placeholder", 0x0404: "authenticator"}

// note writes what became of a host. Nil writes nothing.
func (r *trace) note(format string, h *host) {
	if r != nil {
		r.line(format, r.nameOf(h))
	}
}

func (r *trace) line(format string, args ...any) { r.Line(r.w.now, format, args...) }

// nameOf is the letter of a host: a, b, c in the order of the world.
func (r *trace) nameOf(h *host) string { return string(rune('a' + slices.Index(r.w.hosts, h))) }

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
	for c := p.Cursor(); c.Next(); {
		signed += " " + ntsFields[uint16(c.Field.Type)]
	}
	r.line("%s -> %s  mode %d v%d poll %d  org %s rec %s xmt %s  %s%s %s", from, to, p.Mode, p.Version, p.Poll,
		r.Timestamp(p.Origin, who), r.Timestamp(p.Receive, who), r.Timestamp(p.Transmit, who), state, signed, fate)
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
		r.line("    %s: the association ends: %s", r.nameOf(h), out.Events[len(out.Events)-1].Text)
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
