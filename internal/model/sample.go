// Package model holds the values that flow between the rooms of the core and its
// two drivers. They have no behaviour of their own.
package model

import (
	"net/netip"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// SourceID numbers an association for as long as the process runs; 0 is no source.
type SourceID uint32

// Received is a datagram as the sockets hand it to the core.
type Received struct {
	Data      []byte
	Remote    netip.AddrPort
	Local     netip.Addr      // the address it was sent to; may be a group or a broadcast address
	Interface int             // index of the interface it came in by, 0 if unknown
	At        ntptime.Instant // arrival: the kernel's or the NIC's timestamp where there is one
	Timestamp TimestampKind   // who took At
}

// TimestampKind says who took a timestamp, from the least to the most precise.
type TimestampKind uint8

// The kinds of timestamps.
const (
	TimestampDaemon TimestampKind = iota
	TimestampKernel
	TimestampHardware
	timestampKinds = iota
)

var timestampNames = [timestampKinds]string{"daemon", "kernel", "hardware"}

// String returns the word used in reports.
func (k TimestampKind) String() string { return timestampNames[k] }

// SampleKind says which of a sample's timestamps mean something.
type SampleKind uint8

// The kinds of samples.
const (
	// SampleExchange has all four timestamps: client/server, symmetric, volley.
	SampleExchange SampleKind = iota
	// SampleBroadcast has T3 and T4 only; Delay and DelayError bound the way here.
	SampleBroadcast
	// SampleReference is a reference clock's: T2 = T3 the reference's time, T1 = T4 ours.
	SampleReference
)

// Sample is one measurement of one source, checked by its association
// (RFC 5905 §8: packet tests passed) and not yet filtered.
type Sample struct {
	Source SourceID
	Kind   SampleKind
	T1, T4 ntptime.Instant // sent and received by our clock, on both scales
	T2, T3 ntptime.Wall    // received and sent by the source's clock, era resolved
	// Delay is the calibrated one-way delay of a SampleBroadcast, DelayError its
	// uncertainty (≥ 0); for a SampleReference DelayError is the reference's own error.
	Delay, DelayError time.Duration
	// Dispersion is how far the timestamps may be off because clocks tick: the precision of
	// the source's and of ours (RFC 5905 §8: r.rho + s.rho; its PHI·(T4 − T1) is not in it,
	// since the filter knows how uncertain our frequency is). 0 for a SampleReference,
	// whose DelayError has it.
	Dispersion    time.Duration
	Server        ServerState
	Interleaved   bool
	Authenticated bool
}

// ServerState is what a source's header says of its own clock.
type ServerState struct {
	Leap           wire.Leap
	Stratum        uint8 // 1 to 15; 16 if unsynchronized
	Precision      ntptime.Log2
	ReferenceID    wire.ReferenceID
	ReferenceTime  ntptime.Wall
	RootDelay      time.Duration
	RootDispersion time.Duration
	Loop           bool // it takes its time from us, or is us
}

// SourceStatus is what an association knows of itself. It goes to the system
// process at every change and after every poll, answered or not.
type SourceStatus struct {
	Source     SourceID
	Name       string // as configured: a host name or an address
	Address    netip.AddrPort
	Mode       wire.Mode // our mode: client, active, passive, broadcast (server), ...
	Dynamic    bool      // mobilized by operation, not by configuration
	Broadcast  bool      // follows mode 5 packets (broadcast or multicast client)
	Calibrated bool      // Broadcast: the server has answered the volley that finds the delay
	RemoteMode wire.Mode // mode of the last packet accepted
	Version    uint8
	Reach      uint8 // one bit a poll, newest lowest (RFC 5905 §13)
	Poll       ntptime.Log2
	RemotePoll ntptime.Log2
	Interval   time.Duration // present poll interval
	Unanswered int           // polls since the last accepted packet
	Server     ServerState   // of the last accepted packet; Stratum 16 before the first
	KeyID      uint32        // 0: not authenticated by key
	NTS        bool
	Security   Security // where NTS is set
	Interface  string
	LastPacket ntptime.Instant // last accepted packet; zero value before the first
	Local      netip.Addr      // our own address, to which that packet was sent; invalid: not known, or a group
	Sent       uint64
	Accepted   uint64
	Rejected   [RejectReasons]uint64   // by RejectReason
	Kisses     [KissCodes]uint64       // by KissCode
	Refusals   Refusals                // since the last packet accepted
	Denied     bool                    // a DENY or RSTR ended polling
	Offline    bool                    // not polled, as an operator wished
	SendError  string                  // why the last packet could not be sent; "": it was
	Network    string                  // what the network said of the last request (ICMP), a hint that can be forged; "": nothing
	Gone       bool                    // last word of an association that has ended
	Reference  bool                    // a reference clock: no address, no packets; Accepted counts readings
	Timestamps TimestampKind           // of the last sample: who took the less precise of T1 and T4
	Readings   [ReadingRefusals]uint64 // of a reference clock, refused by its driver
	Waiting    string                  // why the last poll gave no sample; "": it did, or nothing is known
	Idle       bool                    // a line of the configuration that has no association now
	// LastTransmit is the newest mode 5 transmit timestamp believed on the word of a key, 0 if
	// none: whoever makes another association with the same server gives it on, so that no
	// older packet is believed there. Without a key anybody could have sent it.
	LastTransmit ntptime.Timestamp
}

// KeysState says how far a source with NTS (RFC 8915) has come.
type KeysState uint8

// The states.
const (
	KeysNone   KeysState = iota // no key exchange yet, or its keys are used up
	KeysSought                  // a key exchange is under way
	KeysInUse                   // there are keys and cookies
	KeysFailed                  // the last key exchange has failed
	keysStates = iota
)

var keysStateNames = [keysStates]string{"none", "exchanging", "keyed", "failed"}

// String returns the word used in reports.
func (k KeysState) String() string { return keysStateNames[k] }

// Security is what a source with NTS knows of its keys.
type Security struct {
	State     KeysState
	Cookies   int    // left, 0 to 8
	Algorithm uint16 // the AEAD's number at IANA, 0: none yet
	Exchanges uint64 // key exchanges begun
	// FailureKind is the last one's failure in a word (name, date, chain, alpn, refused,
	// timeout, ...), Failure in a sentence; "": it was good, or there was none.
	FailureKind, Failure string
	Next                 ntptime.Raw  // when another exchange is made, where State is KeysNone or KeysFailed
	Undated              bool         // the dates of the certificate could not be checked: our clock was not set
	Identity             uint64       // tells the keys of certificates apart; 0: not known
	Exchanger            netip.Addr   // who made the key exchange; invalid: not known
	Expires              ntptime.Wall // of the server's certificate; 0: not known
}

// Asked reports whether requests have been made by NTS.
func (s *Security) Asked() bool { return s.Exchanges > 0 || s.Algorithm != 0 }

// RejectReason says why an association refused a packet: the packet tests of
// RFC 5905 §8 (Figure 22) by number, and what comes before and after them.
type RejectReason uint8

// The reasons, as counted in ntp_source_rejected_total{reason}.
const (
	RejectNone         RejectReason = iota
	RejectMalformed                 // does not decode
	RejectMode                      // a mode that this association does not take (RFC 5905 Figure 20)
	RejectDuplicate                 // TEST1: transmit timestamp already seen
	RejectBogus                     // TEST2: origin is not the one pending, or none is pending
	RejectInvalid                   // TEST3: a zero timestamp
	RejectAccess                    // TEST4: access rights or wrong address
	RejectAuth                      // TEST5: MAC missing, wrong, of another key, or a crypto-NAK
	RejectUnsync                    // TEST6: leap 3 or stratum out of range
	RejectHeader                    // TEST7: root distance or reference time impossible
	RejectDelay                     // longer than max_delay, or negative beyond the precision
	RejectReplay                    // mode 5: not newer than the last one
	RejectRate                      // mode 5: earlier than its interval allows
	RejectKiss                      // a kiss code: no time in it
	RejectUncalibrated              // mode 5 before the delay is known
	RejectVersion                   // not the version asked for
	RejectLoop                      // our own packet, or our own address
	RejectReasons      = iota       // how many there are
)

var rejectNames = [RejectReasons]string{"none", "malformed", "mode", "duplicate", "bogus", "invalid", "access", "auth",
	"unsynchronized", "header", "delay", "replay", "rate", "kiss", "uncalibrated", "version", "loop"}

// String returns the word used in metrics and reports.
func (r RejectReason) String() string { return rejectNames[r] }

// KissCode counts kiss codes with a fixed set of labels.
type KissCode uint8

// The kiss codes that are acted on, and all others together.
const (
	CountDENY KissCode = iota
	CountRSTR
	CountRATE
	CountNTSN
	CountOther
	KissCodes = iota
)

var kissNames = [KissCodes]string{"DENY", "RSTR", "RATE", "NTSN", "other"}

// String returns the code's letters.
func (k KissCode) String() string { return kissNames[k] }

// ReadingFlags is what a reading of a reference clock says besides its time.
type ReadingFlags struct {
	Leap  wire.Leap // announced by the receiver; LeapNone where it says nothing
	Pulse bool      // only the place within the second is known
	TAI   bool      // the reference counts TAI, not UTC
}

// ReadingRefusal says why a reading of a reference clock was dropped by its driver.
type ReadingRefusal uint8

// The reasons, as counted in ntp_refclock_refused_total{reason}.
const (
	ReadingMalformed ReadingRefusal = iota // not what the protocol says: size, magic number, checksum, fields
	ReadingTorn                            // changed while it was read
	ReadingNoFix                           // the receiver says that it has no fix, or leap 3
	ReadingStale                           // too old when it was read
	ReadingFuture                          // received in the future
	ReadingOld                             // not newer than the last one
	ReadingDate                            // a date before this program was made: GPS week rollover
	ReadingFraction                        // microseconds that are none
	ReadingNoise                           // a serial line on which no sentence comes, for instance at a wrong speed
	ReadingRefusals  = iota                // how many there are
)

var readingNames = [ReadingRefusals]string{"malformed", "torn", "no fix", "stale", "from the future", "old", "impossible date", "impossible fraction", "no sentences"}

// String returns the words used in metrics and reports.
func (r ReadingRefusal) String() string { return readingNames[r] }
