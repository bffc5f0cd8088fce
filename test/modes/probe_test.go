package modes

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// probe asks a daemon for its time from a third host, as any client does, against this
// process's own clock. Two daemons compared by two probes are compared without it.
type probe struct {
	host *peers.Host
	to   netip.AddrPort
	conn net.Conn
}

func newProbe(t testing.TB, from *peers.Host, to netip.Addr) *probe {
	t.Helper()
	p := &probe{host: from, to: netip.AddrPortFrom(to, 123)}
	var err error
	if p.conn, err = from.Dial("udp", p.to.String()); err != nil {
		t.Fatalf("probe of %v: %v", to, err)
	}
	t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

// reading is one look at a daemon's clock.
type reading struct {
	ahead time.Duration // the daemon's clock − ours
	delay time.Duration // of the round trip; the reading is wrong by half of it at most
	wire.Header
}

// patience is how long a probe waits for a reply; both ends are on one machine.
const patience = 250 * time.Millisecond

// once makes one exchange (RFC 5905 §8).
func (p *probe) once() (reading, error) {
	cookie := ntptime.Timestamp(rand.Uint64() | 1)
	request := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: cookie}
	t1 := time.Now()
	if _, err := p.conn.Write(request.Append(nil)); err != nil {
		return reading{}, err
	}
	if err := p.conn.SetReadDeadline(t1.Add(patience)); err != nil {
		return reading{}, err
	}
	b := make([]byte, 1500)
	for {
		n, err := p.conn.Read(b)
		t4 := time.Now()
		if err != nil {
			return reading{}, fmt.Errorf("no reply from %v: %w", p.to, err)
		}
		var reply wire.Packet
		if reply.Decode(b[:n]) != wire.DefectNone || reply.Origin != cookie {
			continue // the reply to a question given up
		}
		now := ntptime.WallOf(t4)
		t2, t3 := reply.Receive.Wall(now).Time(), reply.Transmit.Wall(now).Time()
		return reading{
			ahead:  (t2.Sub(t1) + t3.Sub(t4)) / 2,
			delay:  t4.Sub(t1) - t3.Sub(t2),
			Header: reply.Header,
		}, nil
	}
}

// goodDelay is a round trip short enough to judge a clock to a millisecond by.
const goodDelay = 400 * time.Microsecond

// read makes exchanges until one had a good round trip, or some were made; the best
// counts.
func (p *probe) read() (reading, error) {
	best := reading{delay: time.Hour}
	var failure error
	for range 12 {
		r, err := p.once()
		switch {
		case err != nil:
			failure = err
		case r.delay < best.delay:
			best = r
		}
		if best.delay < goodDelay || failure != nil && best.delay == time.Hour {
			break
		}
	}
	if best.delay == time.Hour {
		return best, failure
	}
	return best, nil
}

// truth compares a daemon's clock with the reference's.
type truth struct {
	subject, reference *probe
}

func newTruth(t testing.TB, monitor *peers.Host, subject, reference netip.Addr) *truth {
	t.Helper()
	return &truth{newProbe(t, monitor, subject), newProbe(t, monitor, reference)}
}

// errorNow is how far the subject's clock is ahead of the reference's, and by how much
// that may be wrong for the time that the packets took.
func (g *truth) errorNow() (ahead, uncertain time.Duration, err error) {
	right, err := g.reference.read()
	if err != nil {
		return 0, 0, err
	}
	ours, err := g.subject.read()
	if err != nil {
		return 0, 0, err
	}
	return ours.ahead - right.ahead, (ours.delay + right.delay) / 2, nil
}

// good is what every mode must reach.
const good = time.Millisecond

// converged is how a clock came right.
type converged struct {
	after time.Duration // since the daemon's start: from then on the error was good
	last  time.Duration // the true error at the end
	worst time.Duration // since it came right
}

func (c converged) String() string {
	return fmt.Sprintf("under %v after %.1f s; then at most %v, at the end %v", good, c.after.Seconds(), c.worst, c.last)
}

// limit is within which every mode must converge, steady how long it must then hold.
const (
	limit  = 3 * time.Minute
	steady = 8 * time.Second
)

// converges waits until the true error of a daemon is good and stays so.
func (g *truth) converges(t testing.TB, d *peers.Daemon) converged {
	t.Helper()
	var c converged
	var since time.Time // the zero value: not good now
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for ; time.Since(d.Begun) < limit; <-ticker.C {
		now := time.Now()
		offset, _, err := g.errorNow()
		switch {
		case err != nil || offset.Abs() >= good:
			since, c.worst = time.Time{}, 0
		case since.IsZero():
			since = now
			fallthrough
		default:
			c.last, c.worst = offset, max(c.worst, offset.Abs())
		}
		if !since.IsZero() && now.Sub(since) >= steady {
			c.after = since.Sub(d.Begun)
			return c
		}
		if ended, err := d.Ended(); ended {
			t.Fatalf("the daemon has ended: %v", err)
		}
	}
	offset, _, err := g.errorNow()
	t.Fatalf("true error of %s after %v: got %v, %v, want it under %v", d.Host.Name, limit, offset, err, good)
	return c
}

// mostLost is how many looks in a row may fail for want of a reply: where the machine is
// busy, or a flood fills a socket, one is lost now and then.
const mostLost = 8

// holds watches the true error for a while.
func (g *truth) holds(during time.Duration) error {
	lost := 0
	return within(during, func() error {
		offset, uncertain, err := g.errorNow()
		if err != nil {
			if lost++; lost > mostLost {
				return err
			}
			return nil
		}
		lost = 0
		if offset.Abs()-uncertain >= good {
			return fmt.Errorf("true error: got %v ± %v, want it under %v", offset, uncertain, good)
		}
		return nil
	})
}
