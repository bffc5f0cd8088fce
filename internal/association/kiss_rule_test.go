package association

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// INIT and STEP in the reference id are the state of a server without time, not a kiss
// (RFC 5905 §7.4 lists them with the kiss codes; obeying one would be a mistake).
func TestRFC5905_7_4_InitAndStepAreNoKisses(t *testing.T) {
	for _, code := range []wire.ReferenceID{wire.KissINIT, wire.KissSTEP} {
		b := newBench(t, clientConfig())
		b.exchange()
		h := kissFor(header(t, b.sendNext()), code)
		b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
		s := &b.a.status
		if s.Kisses != [model.KissCodes]uint64{} || s.Rejected[model.RejectKiss] != 0 {
			t.Errorf("%s: got kisses %v, want none", code.Text(), s.Kisses)
		}
		if got := s.Rejected[model.RejectUnsync]; got != 1 {
			t.Errorf("%s: refused as unsynchronized: got %d, want 1", code.Text(), got)
		}
	}
}

// The timestamps of a kiss are never time, however good they look (RFC 5905 §7.4).
func TestRFC5905_7_4_KissesHoldNoTime(t *testing.T) {
	for _, text := range []string{"RATE", "DENY", "RSTR", "XYZW"} {
		b := newBench(t, clientConfig())
		b.exchange()
		h := kissFor(header(t, b.sendNext()), wire.ReferenceName(text))
		b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
		if b.out.HasSample {
			t.Errorf("%s: got a sample, want none", text)
		}
		if b.a.last.received == h.Receive || b.a.last.sent == h.Transmit {
			t.Errorf("%s: its timestamps are remembered as those of a good reply", text)
		}
	}
}
