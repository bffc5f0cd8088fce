// Package scenario reads a scenario file: the hosts with their clocks and configurations, the
// network between them, what happens to them, and what is expected. The simulator and the
// lab run it. It is read strictly, with every problem as FILE:LINE:COL, as a configuration is.
package scenario

import (
	"time"

	"timeball/internal/config"
	"timeball/internal/ntptime"
)

// Scenario is a scenario file with its defaults applied.
type Scenario struct {
	File           string
	Description    string
	Start          ntptime.Wall  // UTC at the beginning
	Duration       time.Duration // simulated, > 0
	Settle         time.Duration // left out of the statistics, < Duration
	Runs           int           // with seeds Seed, Seed+1, ...
	Seed           uint64
	ConvergedBelow time.Duration // what `convergence` waits for
	Leap           *LeapSecond   // nil: none in this scenario
	Hosts          []Host        // in the file's order
	Links          []Link
	Events         []Event // in order of time
	Expect         []Expectation
}

// LeapSecond is a leap second of the scenario's UTC.
type LeapSecond struct {
	At     ntptime.Wall // the midnight at whose end it happens
	Delete bool         // the last second is left out rather than repeated
}

// Host is one machine: an oscillator and a configuration.
type Host struct {
	Name       string
	Clock      Clock
	Turnaround time.Duration // from the arrival of a request to the sending of its reply
	Config     *config.Config
	Receivers  []Receiver    // devices that its reference clocks read
	Smeared    *config.Smear // the time that it is to follow is smeared, and its error counts against that; nil: UTC
	Replays    []Replay      // its sources whose exchanges were recorded; they are not in Config
	Line       int           // where the file names it
	Column     int
}

// Clock is how wrong a host's clock starts and how its oscillator behaves.
// The zero value is a perfect clock.
type Clock struct {
	Offset    time.Duration     // reference − local: positive, the clock starts behind
	Frequency ntptime.Frequency // of the oscillator; positive: too fast
	Wander    float64           // standard deviation of the frequency's step once a second
	Sine      Sine
	ReadNoise time.Duration // standard deviation of each reading
	Tick      time.Duration // readings are cut to it; 0: they are exact
	Precision ntptime.Log2  // that the host claims for its clock; 0: what its tick is, else 2^-22 s
}

// Sine is a periodic part of the frequency, like a room's temperature, with phase
// 0 at the start.
type Sine struct {
	Amplitude ntptime.Frequency
	Period    time.Duration // 0: no such part
}

// Perfect says whether the clock never errs by itself.
func (c *Clock) Perfect() bool { return *c == Clock{} }

// Link is one row of `links:` between two hosts. A later row wins over an earlier
// one while it holds, in what it states.
type Link struct {
	Between  [2]string
	From, To time.Duration // holds for From ≤ t < To; both 0: always
	Period   time.Duration // repeats the interval; 0: once
	Forward  Path          // Between[0] → Between[1]
	Backward Path          // Between[1] → Between[0]
	Line     int
	Column   int
}

// Path is what one direction of a link does to a packet. Nil fields are left to the
// rows before; where no row says anything there is no delay, jitter or loss.
type Path struct {
	Delay  *time.Duration
	Jitter []Jitter // nil: not stated; empty: stated to be none
	Loss   *float64 // 0 to 1
}

// Distribution names how a part of the jitter is drawn.
type Distribution string

// The distributions of jitter.
const (
	Exponential Distribution = "exponential"
	Normal      Distribution = "normal"
	Uniform     Distribution = "uniform"
	Gamma       Distribution = "gamma"
	Pareto      Distribution = "pareto"
)

// Jitter is one part of a path's random delay, drawn for each packet.
type Jitter struct {
	Distribution Distribution
	Mean         time.Duration // exponential, normal, gamma, pareto
	Deviation    time.Duration // normal
	From, To     time.Duration // uniform
	Shape        float64       // gamma (> 0), pareto (> 1)
	Probability  float64       // that it is drawn at all, else 0
	// Correlation makes the part the same for packets that follow each other closely:
	// it is drawn anew with probability 1−exp(−gap/Correlation). 0: for each packet.
	Correlation time.Duration
}

// EventKind is what happens to a host.
type EventKind string

// The events. Values of time lie in Event.Value, others in their own fields.
const (
	FrequencyStep EventKind = "frequency_step" // of the oscillator, from the next full second on
	OffsetStep    EventKind = "offset_step"    // somebody else sets the clock; reference − local grows by Value
	WanderChange  EventKind = "wander"         // the oscillator's wander from now on
	Suspend       EventKind = "suspend"        // the machine sleeps for Value
	Stop          EventKind = "stop"           // the daemon ends
	Start         EventKind = "start"          // the daemon begins anew
	Reload        EventKind = "reload"         // the daemon takes another configuration: sources, clock, selection, local
)

// Event is one row of `events:`.
type Event struct {
	At        time.Duration
	Host      string
	Kind      EventKind
	Value     time.Duration     // offset_step, suspend
	Frequency ntptime.Frequency // frequency_step
	Wander    float64           // wander
	Reboot    *Reboot           // start: the machine was rebooted; nil: only the daemon
	Config    *config.Config    // reload
}

// Reboot is what a machine still knows when it comes up again.
type Reboot struct {
	Offset    time.Duration // of the clock read from the hardware, reference − local
	KeepDrift bool          // the drift file is still there
}

// Host returns the host with a name, nil if there is none.
func (s *Scenario) Host(name string) *Host {
	for i := range s.Hosts {
		if s.Hosts[i].Name == name {
			return &s.Hosts[i]
		}
	}
	return nil
}

// holds reports whether the row holds at a time since the start.
func (l *Link) Holds(t time.Duration) bool {
	if l.From == 0 && l.To == 0 {
		return true
	}
	if l.Period > 0 && t >= 0 {
		t %= l.Period
	}
	return t >= l.From && t < l.To
}
