package responder

import "sync/atomic"

// What says what was done with a datagram.
type What uint8

// What can be done with a datagram, as counted in ntp_server_packets_total{result}.
const (
	Ignored     What   = iota // silence: nothing that a server answers
	Denied                    // silence: access rights or credentials
	Limited                   // silence: over the rate limit
	Kissed                    // over the rate limit, answered by RATE
	Refused                   // answered by NTSN: a new key exchange is needed
	Answered                  // with the time, in basic mode
	Interleaved               // with the time, in interleaved mode
	Query                     // a control query, answered; of Respond: one that Monitor is to answer, not counted yet
	Passed                    // handed to an association
	Whats       = iota        // how many there are
)

var whatNames = [Whats]string{"ignored", "denied", "rate_limited", "kiss", "nts_nak", "answered", "interleaved", "control", "passed"}

// String returns the word used in metrics and reports.
func (w What) String() string { return whatNames[w] }

// Time reports whether the reply told the time.
func (w What) Time() bool { return w == Answered || w == Interleaved }

// Why says why a datagram was not answered with the time.
type Why uint8

// The reasons.
const (
	WhyNone          Why = iota
	WhyMalformed         // no packet: length, extension field or trailer (RFC 5905 §9.2, RFC 7822 §3)
	WhyVersion           // version 0, or above 4
	WhyMode              // a mode that draws nothing here (RFC 5905 Figure 20)
	WhySource            // an address or port that nobody can ask from, or ::1 from outside
	WhyGroup             // sent to a group or broadcast address
	WhyAccess            // the address has no right to it
	WhyRate              // over the rate limit
	WhyUnsigned          // a key, or NTS, is required
	WhyUnknownKey        // signed with a key that we do not have
	WhyBadMAC            // the MAC does not verify
	WhyNAK               // a crypto-NAK, which is no request
	WhyNTS               // asks for NTS, which is not offered
	WhyCookie            // NTS: the cookie is not ours, or the authenticator not its owner's
	WhyNotServing        // nobody is served here: there is no server section
	WhyNoAssociation     // of a mode that associations take, and none waits for it
	WhyQueue             // for an association, or a control query, and its queue was full
	WhyStarting          // there is no time yet, and silence is asked for until there is
	WhySpace             // the reply would not fit, or would be longer than the request
	Whys             = iota
)

var whyNames = [Whys]string{"none", "malformed", "version", "mode", "source", "group", "access", "rate", "unsigned",
	"unknown-key", "bad-mac", "crypto-nak", "nts", "cookie", "not-serving", "no-association", "queue-full", "starting", "space"}

// String returns the word used in metrics and reports.
func (w Why) String() string { return whyNames[w] }

// Verdict is what became of a datagram, and why.
type Verdict struct {
	What   What
	Why    Why
	Signed bool // the request's MAC or NTS verified, and the reply is signed
	NTS    bool // the request asks for NTS
	// StampID is not 0 if it is worth knowing when the reply really left: it is to be
	// given back to Shard.Transmitted with the stamp of the kernel or the NIC.
	StampID uint32
}

// tally counts verdicts. A shard writes it, reports read it at any time.
type tally struct {
	packets [Whats][8][8]atomic.Uint64 // by version and mode as they stand in the first octet
	whys    [Whys]atomic.Uint64
	signed  atomic.Uint64
	nts     [Whats]atomic.Uint64 // those of packets that ask for NTS
}

func (t *tally) count(version, mode uint8, v Verdict) {
	t.packets[v.What][version&7][mode&7].Add(1)
	if v.Why != WhyNone {
		t.whys[v.Why].Add(1)
	}
	if v.Signed {
		t.signed.Add(1)
	}
	if v.NTS {
		t.nts[v.What].Add(1)
	}
}

// Counters are the counts of one shard, or of several added up.
type Counters struct {
	Packets [Whats][8][8]uint64 // by what was done, version and mode of the datagram
	Whys    [Whys]uint64        // by Why; WhyNone is not counted
	Signed  uint64              // requests whose MAC or NTS verified
	NTS     [Whats]uint64       // requests that ask for NTS, by what was done
}

// addTo adds the counts to c.
func (t *tally) addTo(c *Counters) {
	for what := range t.packets {
		for version := range t.packets[what] {
			for mode := range t.packets[what][version] {
				c.Packets[what][version][mode] += t.packets[what][version][mode].Load()
			}
		}
	}
	for why := range t.whys {
		c.Whys[why] += t.whys[why].Load()
	}
	c.Signed += t.signed.Load()
	for what := range t.nts {
		c.NTS[what] += t.nts[what].Load()
	}
}

// Sum returns how many datagrams were treated so.
func (c *Counters) Sum(what What) uint64 {
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
	for what := range What(Whats) {
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
