package scenario

import (
	"time"

	"gopkg.in/yaml.v3"
)

// Receiver is a device of a host: what a reference clock of its configuration, which has
// the same reference id, reads there.
type Receiver struct {
	RefID    string
	Interval time.Duration // between readings, > 0
	Late     time.Duration // from what is told to the telling of it
	Jitter   []Jitter      // of the telling, summed
	Loss     float64       // probability of each reading not to come
	Pulse    bool          // tells where a second begins, and not which
	Line     int
	Column   int
}

func (r *reader) receiver(n *yaml.Node, path string) Receiver {
	d := Receiver{Interval: time.Second, Line: n.Line, Column: n.Column}
	var p Path
	r.mapping(n, path, []field{
		{"refid", r.words(&d.RefID, "a reference id", "GPS")},
		{"interval", r.duration(&d.Interval, time.Millisecond, time.Hour)},
		{"late", r.duration(&d.Late, 0, time.Minute)},
		{"jitter", func(n *yaml.Node, path string) { r.jitters(n, path, &p) }},
		{"loss", r.number(&d.Loss, 0, 1)},
		{"pulse", func(n *yaml.Node, path string) { d.Pulse, _ = r.Boolean(n, path) }},
	})
	if d.RefID == "" {
		r.Fail(n, path, "has no refid; write that of the host's reference clock that reads it")
	}
	d.Jitter = p.Jitter
	return d
}

// checkReceivers finds devices that nobody reads.
func (r *reader) checkReceivers(s *Scenario) {
	for i := range s.Hosts {
		h := &s.Hosts[i]
		for j := range h.Receivers {
			d := &h.Receivers[j]
			read := false
			for k := range h.Config.Sources {
				c := h.Config.Sources[k].Refclock
				read = read || c != nil && c.RefID == d.RefID
			}
			if !read {
				r.Fail(&yaml.Node{Line: d.Line, Column: d.Column}, "hosts."+h.Name+".receivers", "no refclock of this host has the refid %s", d.RefID)
			}
		}
	}
}

// Receiver finds a device by its reference id, nil if there is none.
func (h *Host) Receiver(refid string) *Receiver {
	for i := range h.Receivers {
		if h.Receivers[i].RefID == refid {
			return &h.Receivers[i]
		}
	}
	return nil
}
