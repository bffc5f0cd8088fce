package responder

import "sync/atomic"

// Result says what was done with a datagram.
type Result uint8

// The results, what can be done with a datagram, as counted in ntp_server_packets_total{result}.
const (
	Ignored     Result = iota // silence: nothing that a server answers
	Denied                    // silence: access rights or credentials
	Limited                   // silence: over the rate limit
	RateKoD                   // over the rate limit, answered by RATE
	Refused                   // answered by NTSN: a new key exchange is needed
	Answered                  // with the time, in basic mode
	Interleaved               // with the time, in interleaved mode
	Query                     // a control query, answered; of Respond: one that Monitor is to answer, not counted yet
	Forwarded                 // handed to an association
	Results     = iota        // how many there are
)

var resultNames = [Results]string{"ignored", "denied", "rate_limited", "kiss", "nts_nak", "answered", "interleaved", "control", "passed"}

// String returns the word used in metrics and reports.
func (w Result) String() string { return resultNames[w] }

// Time reports whether the reply told the time.
func (w Result) Time() bool { return w == Answered || w == Interleaved }

// Reason says why a datagram was not answered with the time.
type Reason uint8

// The reasons.
const (
	ReasonNone          Reason = iota
	ReasonMalformed            // no packet: length, extension field or trailer (RFC 5905 §9.2, RFC 7822 §3)
	ReasonVersion              // version 0, or above 4
	ReasonMode                 // a mode that draws nothing here (RFC 5905 Figure 20)
	ReasonSource               // an address or port that nobody can ask from, or ::1 from outside
	ReasonGroup                // sent to a group or broadcast address
	ReasonAccess               // the address has no right to it
	ReasonRate                 // over the rate limit
	ReasonUnsigned             // a key, or NTS, is required
	ReasonUnknownKey           // signed with a key that we do not have
	ReasonBadMAC               // the MAC does not verify
	ReasonNAK                  // a crypto-NAK, which is no request
	ReasonNTS                  // asks for NTS, which is not offered
	ReasonCookie               // NTS: the cookie is not ours, or the authenticator not its owner's
	ReasonNotServing           // nobody is served here: there is no server section
	ReasonNoAssociation        // of a mode that associations take, and none waits for it
	ReasonQueue                // for an association, or a control query, and its queue was full
	ReasonStarting             // there is no time yet, and silence is asked for until there is
	ReasonSpace                // the reply would not fit, or would be longer than the request
	Reasons             = iota
)

var reasonNames = [Reasons]string{"none", "malformed", "version", "mode", "source", "group", "access", "rate", "unsigned",
	"unknown-key", "bad-mac", "crypto-nak", "nts", "cookie", "not-serving", "no-association", "queue-full", "starting", "space"}

// String returns the word used in metrics and reports.
func (w Reason) String() string { return reasonNames[w] }

// Verdict is what became of a datagram, and why. It has four fields and no more: the
// compiler keeps such a struct in registers, and a request costs a third less.
type Verdict struct {
	Result Result
	Reason Reason
	Shown  Shown
	// TimestampID is not 0 if it is worth knowing when the reply really left: it is to be
	// given back to Shard.Transmitted with the timestamp of the kernel or the NIC.
	TimestampID uint32
}

// Shown is what a request shows of its sender.
type Shown uint8

// What a request may show.
const (
	ShownProof Shown = 1 << iota // its MAC or NTS verified, and the reply is signed
	ShownNTS                     // it asks for NTS
)

// Signed reports whether the request's MAC or NTS verified; then the reply is signed.
func (v Verdict) Signed() bool { return v.Shown&ShownProof != 0 }

// NTS reports whether the request asks for NTS.
func (v Verdict) NTS() bool { return v.Shown&ShownNTS != 0 }

// counters counts verdicts. A shard writes it, reports read it at any time.
type counters struct {
	packets [Results][8][8]atomic.Uint64 // by version and mode as they stand in the first byte
	whys    [Reasons]atomic.Uint64
	signed  atomic.Uint64
	nts     [Results]atomic.Uint64 // those of packets that ask for NTS
}

// Counters are the counts of one shard, or of several added up.
type Counters struct {
	Packets [Results][8][8]uint64 // by what was done, version and mode of the datagram
	Reasons [Reasons]uint64       // ReasonNone is not counted
	Signed  uint64                // requests whose MAC or NTS verified
	NTS     [Results]uint64       // requests that ask for NTS, by what was done
}

// addTo adds the counts to c.
func (t *counters) addTo(c *Counters) {
	for what := range t.packets {
		for version := range t.packets[what] {
			for mode := range t.packets[what][version] {
				c.Packets[what][version][mode] += t.packets[what][version][mode].Load()
			}
		}
	}
	for why := range t.whys {
		c.Reasons[why] += t.whys[why].Load()
	}
	c.Signed += t.signed.Load()
	for what := range t.nts {
		c.NTS[what] += t.nts[what].Load()
	}
}

// Sum returns how many datagrams were treated so.
func (c *Counters) Sum(what Result) uint64 {
	var sum uint64
	for _, byMode := range c.Packets[what] {
		for _, n := range byMode {
			sum += n
		}
	}
	return sum
}

// Received returns how many datagrams were counted in all.
func (c *Counters) Received() uint64 {
	var sum uint64
	for what := range Result(Results) {
		sum += c.Sum(what)
	}
	return sum
}

// NTSReceived returns how many datagrams asked for NTS.
func (c *Counters) NTSReceived() uint64 {
	var sum uint64
	for _, n := range c.NTS {
		sum += n
	}
	return sum
}
