package simulate

import (
	"fmt"
	"net/netip"
	"time"

	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/leapfile"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
)

// precision is what a daemon of the reference models finds when it reads its clock:
// steps of 100 to 400 ns.
const precision ntptime.Log2 = -22

// precision is what this host's daemon finds, or what the scenario has it claim.
func (m *machine) precision() ntptime.Log2 {
	switch c := &m.host.Clock; {
	case c.Precision != 0:
		return c.Precision
	case c.Tick > 0:
		return max(ntptime.Log2Of(c.Tick), precision)
	}
	return precision
}

// runnable says what of a scenario the simulator cannot do, with its place.
func runnable(s *scenario.Scenario) error {
	var problems config.Problems
	linked := map[[2]string]bool{}
	for i := range s.Links {
		l := &s.Links[i]
		linked[l.Between] = true
		linked[[2]string{l.Between[1], l.Between[0]}] = true
	}
	for i := range s.Hosts {
		h := &s.Hosts[i]
		for j := range h.Config.Sources {
			source := &h.Config.Sources[j]
			why := ""
			switch {
			case source.Kind == config.RefclockSource:
				if h.Receiver(source.Refclock.RefID) != nil {
					continue
				}
				why = fmt.Sprintf("there is no device for it; add {refid: %s} to the host's receivers", source.Refclock.RefID)
			case source.Host != "" && !linked[[2]string{h.Name, source.Host}]:
				why = fmt.Sprintf("there is no way from %s to %s; add a row to links", h.Name, source.Host)
			default:
				continue
			}
			problems = append(problems, config.Problem{File: s.File, Line: h.Line, Column: h.Column,
				Path: fmt.Sprintf("hosts.%s.config.sources[%d]", h.Name, j), Message: why})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// engineHost is what the core is told of a machine, with what an earlier life has left on
// its disk.
func (m *machine) engineHost() *engine.Host {
	return &engine.Host{
		Precision: m.precision(), Addresses: []netip.Addr{m.address}, Listening: []netip.AddrPort{netip.AddrPortFrom(m.address, ntpPort)}, Source: m.address,
		PanicGateOpen: !m.memory.gateUsed, Leaps: m.leapList(),
		InterfaceIndex: func(string) int { return onlyInterface }, NameOf: m.nameOf,
		Frequency: m.memory.frequency, FrequencyError: m.memory.frequencyError, Floor: m.memory.lastTime,
	}
}

// onlyInterface is the number of the interface that every machine has, by any name.
const onlyInterface = 1

// leapList gives a host whose configuration names a leap file the scenario's leap
// second as that file's last row; the file itself is not read.
func (m *machine) leapList() *leapfile.List {
	leap := m.world.scenario.Leap
	if leap == nil {
		return nil
	}
	const now = 37 // TAI−UTC since 2017
	after := now + 1
	if leap.Delete {
		after = now - 1
	}
	since := ntptime.WallOf(time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC))
	return &leapfile.List{Entries: []leapfile.Entry{{At: since, TAI: now}, {At: leap.At, TAI: after}}}
}

// addressOf is the address of a host of the scenario.
func (m *machine) addressOf(name string) netip.Addr {
	address := firstAddress
	for i := range m.world.scenario.Hosts {
		if m.world.scenario.Hosts[i].Name == name {
			break
		}
		address = address.Next()
	}
	return address
}
