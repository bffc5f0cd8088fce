package lab

import (
	"math"
	"time"

	"timeball/internal/control"
)

// State is a lab at one moment, as `timeball lab --json` prints it.
type State struct {
	Elapsed float64              `json:"elapsed"` // s since the start
	Hosts   map[string]HostState `json:"hosts"`
	order   []string
}

// HostState is one host: what its daemon believes, and the truth.
type HostState struct {
	Address      string        `json:"address"`
	TrueError    float64       `json:"true_error"` // s; what the clock shows minus true time: positive, it is ahead
	Offset       float64       `json:"offset"`     // s; reference − local, as the daemon believes
	ErrorBound   control.Bound `json:"error_bound"`
	Stratum      int           `json:"stratum"` // 16: not synchronized
	ReferenceID  string        `json:"reference_id"`
	Synchronized bool          `json:"synchronized"`
	Stopped      bool          `json:"stopped,omitempty"` // by an event of the scenario

	Sources []control.Source `json:"sources"`
}

// State reads every host.
func (l *Lab) State() State {
	state := State{Elapsed: time.Since(l.started).Seconds(), Hosts: map[string]HostState{}}
	for _, h := range l.hosts {
		state.order = append(state.order, h.name)
		state.Hosts[h.name] = h.state()
	}
	return state
}

func (h *host) state() HostState {
	d := h.daemon.Load()
	if d == nil {
		return HostState{
			Address: h.addr.String(), TrueError: h.clock.TrueError().Seconds(), Stratum: unsynchronizedStratum,
			Stopped: true, Sources: []control.Source{},
		}
	}
	snapshot, now := d.Snapshot(), h.clock.Now()
	report := control.SourcesReport(snapshot, now)
	return HostState{
		Address:      h.addr.String(),
		TrueError:    h.clock.TrueError().Seconds(),
		Offset:       snapshot.Offset.Seconds(),
		ErrorBound:   control.BoundOf(snapshot, 0),
		Stratum:      int(snapshot.Stratum),
		ReferenceID:  snapshot.ReferenceID.Format(snapshot.Stratum),
		Synchronized: snapshot.Synchronized,
		Sources:      report.Sources,
	}
}

// unsynchronizedStratum is MAXSTRAT of RFC 5905 §7.3.
const unsynchronizedStratum = 16

// Unsynchronized names the hosts that are not synchronized, in the scenario's order.
// Those that an event has stopped have no part in it.
func (s *State) Unsynchronized() []string {
	var names []string
	for _, name := range s.order {
		if h := s.Hosts[name]; !h.Synchronized && !h.Stopped {
			names = append(names, name)
		}
	}
	return names
}

// Running counts the hosts that are not stopped.
func (s *State) Running() int {
	count := 0
	for _, name := range s.order {
		if !s.Hosts[name].Stopped {
			count++
		}
	}
	return count
}

// Worst is the host whose clock is furthest from true time, of those that run, and by
// how much (s, ≥ 0); "" if none runs.
func (s *State) Worst() (name string, trueError float64) {
	for _, n := range s.order {
		h := s.Hosts[n]
		if e := math.Abs(h.TrueError); !h.Stopped && (name == "" || e > trueError) {
			name, trueError = n, e
		}
	}
	return name, trueError
}

// Names are the hosts in the scenario's order.
func (s *State) Names() []string { return s.order }
