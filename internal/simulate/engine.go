package simulate

import (
	"net/netip"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
	"timeball/internal/virtual"
)

// program is what runs on a machine: the NTP core in all but the tests of the models.
type program interface {
	// deadline is when timer is due, on the machine's raw scale.
	deadline() ntptime.Raw
	timer(now ntptime.Instant)
	// receive takes a datagram that arrived now; false: its sender is answered at the
	// moment of serve, which comes after the machine's turnaround.
	receive(p *packet, now ntptime.Instant) (done bool)
	serve(p *packet, now ntptime.Instant)
	// tend comes when the program has asked for it by tendLater.
	tend(now ntptime.Instant)
	jumped(by, slept time.Duration, now ntptime.Instant)
	leaped(step time.Duration, before ntptime.Wall, now ntptime.Instant)
	// report is the state of the program as it would tell it; nil if it has none.
	report(now ntptime.Instant) *model.Snapshot
	stop()
}

// packet is a datagram under way.
type packet struct {
	data     []byte
	from, to netip.AddrPort
	arrived  ntptime.Instant // where it has arrived
}

// world is one run: virtual time and all that lives in it. It is single-threaded.
type world struct {
	scenario *scenario.Scenario
	seed     uint64
	now      int64 // true nanoseconds since the start
	end      int64
	events   virtual.Queue[int64, happening] // by true nanoseconds since the start
	machines []*machine
	network  *virtual.Network
	address  map[netip.Addr]int
	free     []*packet
}

// firstAddress begins the network for benchmarks, 198.18.0.0/15 (RFC 2544): no host
// of a scenario can be mistaken for a real one.
var firstAddress = netip.AddrFrom4([4]byte{198, 18, 0, 1})

func newWorld(s *scenario.Scenario, seed uint64, series bool, boot func(m *machine) program) *world {
	w := &world{scenario: s, seed: seed, end: int64(s.Duration), network: virtual.NewNetwork(s, seed), address: map[netip.Addr]int{}}
	address := firstAddress
	for i := range s.Hosts {
		m := newMachine(w, i, address, series)
		w.machines = append(w.machines, m)
		w.address[address] = i
		address = address.Next()
	}
	for i := range s.Events {
		e := &s.Events[i]
		for j := range s.Hosts {
			if s.Hosts[j].Name == e.Host {
				w.events.Push(int64(e.At), happening{kind: doScenario, machine: j, event: e})
			}
		}
	}
	for _, m := range w.machines {
		m.boot = boot
		m.begin()
	}
	return w
}

// run lets everything happen until the end, or until stop says so; it is asked once
// in a while with the time that has passed.
func (w *world) run(stop func(now int64) bool) bool {
	for n := 0; ; n++ {
		if at, some := w.events.Next(); !some || at > w.end {
			break
		}
		if n%4096 == 0 && stop != nil && stop(w.now) {
			return false
		}
		var e happening
		w.now, e = w.events.Pop()
		w.handle(&e)
	}
	w.now = w.end
	for _, m := range w.machines {
		m.advance(w.end)
	}
	return true
}

func (w *world) handle(e *happening) {
	m := w.machines[e.machine]
	switch e.kind {
	case doScenario:
		m.event(e.event)
	case doWake:
		m.wake(e.generation)
	case doTend:
		m.tend(e.generation)
	case doLeap:
		m.midnight(e.generation)
	case doJump:
		m.lookForJump()
	case doDeliver:
		m.arrive(e.packet)
	case doServe:
		m.answer(e.packet)
	case doReplay:
		m.replayed(e)
	case doReading:
		m.reading(e)
	}
}

// send puts a datagram on its way; data is copied. Nobody learns whether it arrives.
// An address that is no host's is a group or a broadcast address: the datagram goes
// to everybody there is a link to.
func (w *world) send(from int, source, to netip.AddrPort, data []byte) {
	if receiver, known := w.address[to.Addr()]; known {
		w.transmit(from, receiver, source, to, data)
		return
	}
	for _, receiver := range w.network.Reached(from) {
		w.transmit(from, receiver, source, to, data)
	}
}

func (w *world) transmit(from, receiver int, source, to netip.AddrPort, data []byte) {
	direction := w.network.Direction(from, receiver)
	if direction == nil {
		return
	}
	delay, arrives := direction.Send(w.now)
	if !arrives {
		return
	}
	p := w.take()
	p.data = append(p.data[:0], data...)
	p.from, p.to = source, to
	w.events.Push(w.now+delay, happening{kind: doDeliver, machine: receiver, packet: p})
}

func (w *world) take() *packet {
	if n := len(w.free); n > 0 {
		p := w.free[n-1]
		w.free = w.free[:n-1]
		return p
	}
	return &packet{}
}

func (w *world) give(p *packet) { w.free = append(w.free, p) }
