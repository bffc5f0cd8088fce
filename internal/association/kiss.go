package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// kissOf reads the code of a kiss-o'-death (RFC 5905 §7.4): stratum 0, leap 3 and four
// printable letters. INIT and STEP are the state of a server that has no time yet,
// not a kiss; so is an address or nothing in place of the letters.
func kissOf(p *wire.Packet) (wire.ReferenceID, bool) {
	if p.Stratum != wire.StratumKiss || p.Leap != wire.LeapUnknown {
		return 0, false
	}
	if p.ReferenceID == wire.KissINIT || p.ReferenceID == wire.KissSTEP {
		return 0, false
	}
	for shift := 0; shift < 32; shift += 8 {
		if c := byte(p.ReferenceID >> shift); (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return 0, false
		}
	}
	return p.ReferenceID, true
}

// onKiss obeys a kiss code that answers our own request, with a good MAC where there
// is a key; the caller has made the tests (RFC 8633 §5.4, threat 7).
func (a *Association) onKiss(code wire.ReferenceID, p *wire.Packet, at ntptime.Instant, out *Output) {
	a.reject(model.RejectKiss)
	counter := kissCounter(code)
	a.status.Kisses[counter]++
	a.status.Refusals.Kiss = code
	a.event(model.EventKiss, at, code.Text(), out)
	a.poll.answered()
	a.role.answered(a, false, at, out)
	switch counter {
	case model.CountDENY, model.CountRSTR:
		a.role.denied(a, code, at, out)
	case model.CountRATE:
		a.role.slowedDown(a, min(max(p.Poll, lowestPoll), highestPoll).Duration(), at)
	}
	// All others are ignored: unknown ones, and those that begin with X (RFC 5905 §7.4).
}

func kissCounter(code wire.ReferenceID) model.KissCode {
	switch code {
	case wire.KissDENY:
		return model.CountDENY
	case wire.KissRSTR:
		return model.CountRSTR
	case wire.KissRATE:
		return model.CountRATE
	case wire.KissNTSN:
		return model.CountNTSN
	}
	return model.CountOther
}

// slowest is the least bound that RATE may raise the interval to, also where max_poll
// is less: a server that asks for rest gets some.
const slowest = 64 * time.Second

// recovery is how many replies without another RATE bring the interval half way back.
const recovery = 8

// slowDown raises the poll interval at once, and again at each RATE (RFC 5905 §7.4),
// to a bound: an attacker who makes the true server complain must not silence us
// (CVE-2015-7705).
func (p *pollProcess) slowDown(asked time.Duration, now ntptime.Instant, random Random) {
	limit := max(p.max, slowest)
	p.rateFloor = min(max(2*max(p.spacing, p.interval()), asked), limit)
	p.endStartup()
	p.sinceRate, p.expedited = 0, false
	p.reschedule(now, random)
}

// recover lets the interval come back after a while without another RATE.
func (p *pollProcess) recover() {
	if p.sinceRate++; p.sinceRate < recovery {
		return
	}
	p.sinceRate = 0
	if p.rateFloor /= 2; p.rateFloor <= p.wanted() {
		p.rateFloor = 0
	}
}
