package netio

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// predicting predicts when its replies leave, and compares every other prediction with the
// kernel's transmit timestamp.
type predicting struct {
	handlerFunc
	predicted map[uint32]ntptime.Raw
	count     uint32
	late      chan time.Duration // prediction less transmission
}

func (p *predicting) Handle(rx *model.Received, lead time.Duration, reply []byte) (int, Token) {
	n := copy(reply, rx.Data)
	p.count++
	if p.count%2 == 0 {
		return n, Token{}
	}
	p.predicted[p.count] = systemNow().Raw.Add(lead)
	return n, Token{ID: p.count}
}

func (p *predicting) Sent(token Token, at ntptime.Instant, kind model.TimestampKind) {
	if kind == model.TimestampKernel {
		p.late <- p.predicted[token.ID].Sub(at.Raw)
	}
}

// The transmit timestamp of a reply is hardly ever later than its transmission, although the
// call that sends it runs the receiver too, as over loopback and veth: who follows us would
// be off by half of that.
func TestAReplyIsNotPredictedAfterItsTransmission(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		const exchanges = 2000
		h := &predicting{predicted: map[uint32]ntptime.Raw{}, late: make(chan time.Duration, exchanges)}
		p := listenAt(t, ListenConfig{Address: netip.AddrPortFrom(netip.MustParseAddr(address), 0)}, h)
		c := clientOf(t, ClientConfig{Remote: p.LocalAddr(), NoTransmitTimestamps: true})
		for i := range uint64(exchanges) {
			if _, err := c.Send(message(i)); err != nil {
				t.Fatal(err)
			}
			readPacket(t, c)
		}
		var list []time.Duration
		for len(h.late) > 0 {
			list = append(list, <-h.late)
		}
		list = list[min(len(list), 100):] // while nothing is known yet
		slices.Sort(list)
		if len(list) < exchanges/4 {
			t.Fatalf("%s: %d transmit timestamps, want some %d", address, len(list), exchanges/2)
		}
		after := 0
		for _, d := range list {
			if d > 0 {
				after++
			}
		}
		median := list[len(list)/2]
		t.Logf("%s: median %s, after the transmission %d of %d, most %s", address, median, after, len(list), list[len(list)-1])
		if median > 0 || after*50 > len(list) {
			t.Errorf("%s: median %s, %d of %d after the transmission; want before, and hardly any after", address, median, after, len(list))
		}
	}
}
