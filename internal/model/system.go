package model

import (
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/smear"
	"timeball/internal/wire"
)

// Correction is what the discipline wants done to the disciplined clock, now.
// The clock then runs at 1 + Frequency + Slew against the raw oscillator, until
// the next Correction; the discipline itself ends a slew with another one.
type Correction struct {
	Step      time.Duration     // added at once; positive moves the clock forward; 0 = no step
	Frequency ntptime.Frequency // lasting correction of the oscillator's frequency
	Slew      ntptime.Frequency // momentary part that works off the offset
	Kernel    KernelState
}

// KernelState is what the kernel is told about the quality of its clock, so that
// adjtimex(2) readers see the truth.
type KernelState struct {
	Synchronized   bool
	Leap           wire.Leap     // armed for the end of this UTC day, else LeapNone
	MaxError       time.Duration // root distance
	EstimatedError time.Duration
	TAI            int // TAI−UTC in seconds, 0 if unknown
}

// Applied is what the clock really did, and when. Wall−Raw of At is the clock's
// state right after; Before the same before any step.
type Applied struct {
	At         ntptime.Instant // right after
	BeforeWall ntptime.Wall    // what the clock showed at At.Raw before the step
	Rate       ntptime.Frequency
	Correction Correction
	Err        string // "" or why the clock refused
}

// ClockJump is a change of disciplined−raw that nobody here made: somebody else
// set the clock, or the machine slept.
type ClockJump struct {
	At    ntptime.Instant
	By    time.Duration // measured minus expected; positive: the clock was set forward
	Slept time.Duration // time that the oscillator stood still, 0 if it was not sleep
}

// Hint tells an association how to poll. The newest replaces the older ones.
type Hint struct {
	Source   SourceID
	Interval time.Duration // between polls; the association bounds it by its min_poll and max_poll
	Soon     time.Duration // if > 0: make one extra exchange after this long
}

// State is a source's place in the selection, as reports and metrics name it.
type State uint8

// The states, as the reports name them (docs/commands.md).
const (
	StateWaiting State = iota
	StateUnreachable
	StateUnsynchronized
	StateExcluded
	StateDistant
	StateFalseticker
	StateOutlier
	StateSurvivor
	StateCombined
	StateSelected
	States = iota
)

var stateNames = [States]string{"waiting", "unreachable", "unsynchronized", "excluded", "distant",
	"falseticker", "outlier", "survivor", "combined", "selected"}

// String returns the word used in reports and metrics.
func (s State) String() string { return stateNames[s] }

// Check is one test of the chain that decided about a source: its name, the
// number found, the limit, and whether it passed. Numbers are seconds, or counts
// where Unit says so.
type Check struct {
	Name   string // "reachable", "synchronized", "distance", "majority", ...
	Value  float64
	Limit  float64
	Unit   string // "s", "polls", "sources", "stratum", ""
	Passed bool
	Text   string // one sentence for people
}

// SourceReport is all that is known of one source: status, estimate, verdict.
type SourceReport struct {
	SourceStatus
	State      State
	Reason     string  // why, in words
	Checks     []Check // in the order in which they were made
	Offset     time.Duration
	Delay      time.Duration // round trip of the last sample
	MinDelay   time.Duration // base round trip learned
	Jitter     time.Duration
	Error      time.Duration // half width of the interval that holds the true offset
	Weight     float64       // share in the combination, 0 to 1
	Frequency  ntptime.Frequency
	LastSample ntptime.Instant // zero value before the first
	Samples    uint64
	Filter     []FilterSample // newest first, at most 8
}

// FilterSample is one of the last samples of a source (RFC 5905 §10).
type FilterSample struct {
	Age    time.Duration // at the time of the snapshot
	Offset time.Duration
	Delay  time.Duration
	Error  time.Duration // its own uncertainty
}

// Mode of the discipline, for reports.
type DisciplineState uint8

// The states of the discipline (RFC 5905 §11.3, Figure 27, as far as they exist here).
const (
	DisciplineUnset    DisciplineState = iota // no sample yet
	DisciplineStarting                        // frequency being learned
	DisciplineSync                            // tracking
	DisciplineHoldover                        // no usable source, running on the last frequency
	DisciplinePanic                           // a correction beyond the panic limit was refused
	DisciplineLocal                           // the local clock is the reference
	DisciplineStates   = iota
)

var disciplineNames = [DisciplineStates]string{"unset", "starting", "sync", "holdover", "panic", "local"}

// String returns the word used in reports.
func (d DisciplineState) String() string { return disciplineNames[d] }

// UnknownBound is the error bound of a clock that no source has set.
const UnknownBound = time.Duration(1 << 62)

// Snapshot is the system process at one moment. It is never changed once it is
// published: the responder, the metrics and the reports read it without locks.
type Snapshot struct {
	At             ntptime.Instant
	State          DisciplineState
	Synchronized   bool
	Unsteady       bool      // slewed faster than any frequency error (MAXFREQ): nobody can follow it, so it is not served
	Leap           wire.Leap // LeapUnknown while not synchronized
	Stratum        uint8     // 1 to 15, MaxStratum while not synchronized (0 on the wire)
	ReferenceID    wire.ReferenceID
	ReferenceTime  ntptime.Wall
	RootDelay      time.Duration
	RootDispersion time.Duration     // at At
	DispersionRate ntptime.Frequency // its growth until the next snapshot (RFC 5905: PHI)
	Precision      ntptime.Log2
	SystemPeer     SourceID          // 0: none
	Offset         time.Duration     // reference − disciplined clock, still to be worked off
	Frequency      ntptime.Frequency // lasting correction
	FrequencyError ntptime.Frequency // its standard deviation
	Slew           ntptime.Frequency // momentary
	Jitter         time.Duration
	EstimatedError time.Duration // standard deviation of the clock's error
	ErrorBound     time.Duration // |offset| + root dispersion + root delay / 2; UnknownBound: not known
	PollInterval   time.Duration
	LastUpdate     ntptime.Instant
	Updates        uint64
	Steps          uint64
	StepsTotal     time.Duration // sum of |step|
	LastStep       ntptime.Instant
	Rival          bool   // somebody keeps setting the clock
	Disruptions    uint64 // how often somebody else set the clock, or the machine slept
	LastDisruption ntptime.Instant
	PanicOffset    time.Duration // ≠ 0 in state panic: the correction refused
	TAI            int
	LeapPending    ntptime.Wall // when the armed leap second happens, 0 = none
	Smear          smear.Smear  // what is smeared now for those who are served smeared time; its Leap 0: nothing
	SmearAfter     bool         // Smear's leap second has happened by At
	Serves         bool         // others may set their clocks by ours: we answer, have peers, or send broadcasts
	Configured     int          // lines of `sources:`
	InUse          int          // of these, with an association at least
	Sources        []SourceReport
}

// EventKind is a change of state worth a line in the log.
type EventKind uint8

// The events.
const (
	EventNone EventKind = iota
	EventMobilized
	EventDemobilized
	EventReachable
	EventUnreachable
	EventKiss
	EventSelected       // another system peer
	EventSynchronized   // first usable source, or again
	EventUnsynchronized // no usable source for long
	EventHoldover
	EventStep
	EventPanic
	EventClockJump
	EventFalseticker
	EventTruechimer // a falseticker that agrees again
	EventRouteChange
	EventFrequencyJump
	EventLeapArmed
	EventLeapDone
	EventLocal
	EventClockRefused // the clock driver would not apply a correction
	EventLimit        // associations or another bound reached
	EventRefused      // a source answers, and its packets are refused
	EventKeys         // a key exchange of NTS has brought keys
	EventKeysFailed   // a key exchange of NTS has failed, for another reason than before
	EventTimeJump     // the sources show an error of the clock that nobody here has made
	EventRival        // somebody else keeps setting the clock
	EventKinds        = iota
)

var eventNames = [EventKinds]string{"none", "mobilized", "demobilized", "reachable", "unreachable", "kiss", "selected",
	"synchronized", "unsynchronized", "holdover", "step", "panic", "clock-jump", "falseticker", "truechimer",
	"route-change", "frequency-jump", "leap-armed", "leap-done", "local", "clock-refused", "limit", "refused", "keys", "keys-failed",
	"time-jump", "rival"}

// String returns the word used in logs.
func (k EventKind) String() string { return eventNames[k] }

// Event is a change of state: one line in the log.
type Event struct {
	At     ntptime.Instant
	Kind   EventKind
	Source SourceID
	Value  time.Duration // step, offset, ... as the kind has it
	Text   string        // what the operator needs besides
}
