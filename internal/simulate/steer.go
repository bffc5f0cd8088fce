package simulate

import (
	"math"
	"net/netip"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
	"timeball/internal/virtual"
	"timeball/internal/wire"
)

// apply does to the clock what a program wants, at this very instant.
func (m *machine) apply(c model.Correction) model.Applied {
	before := m.read()
	if c.Step != 0 {
		m.stats.stepped(m.world.now)
		m.marks = append(m.marks, mark{m.world.now, "step " + scenario.FormatSeconds(c.Step.Seconds())})
	}
	rate := max(-0.1, min(0.1, c.Frequency+c.Slew))
	frequency := virtual.Quantize(c.Frequency)
	m.clock.Set(m.raw(m.world.now), c.Step.Seconds(), frequency, virtual.Quantize(rate)-frequency)
	m.arm(c.Kernel.Leap)
	return model.Applied{
		At: m.read(), BeforeWall: before.Wall, Correction: c,
		Rate: ntptime.Frequency(m.clock.Frequency + m.clock.Slew),
	}
}

// arm tells the kernel what to do at the end of the UTC day.
func (m *machine) arm(leap wire.Leap) {
	if leap != wire.LeapInsert && leap != wire.LeapDelete {
		leap = wire.LeapNone
	}
	m.armed = leap
	m.midnightAt++
	if leap != wire.LeapNone {
		m.scheduleMidnight()
	}
}

// untilLeap is how far the clock is from where the armed leap second happens.
func (m *machine) untilLeap(now ntptime.Instant) time.Duration {
	const day = 24 * time.Hour
	rest := day - time.Duration(now.Wall)%day
	if m.armed == wire.LeapDelete {
		rest -= time.Second
	}
	return rest
}

func (m *machine) scheduleMidnight() {
	wait := m.untilLeap(m.read())
	m.world.events.Push(m.world.now+max(1, m.ahead(wait)), happening{kind: doLeap, machine: m.index, generation: m.midnightAt})
}

// midnight makes the leap second when the clock has reached it: at the end of the
// day by its own reading it goes back to 23:59:59, or from there on to midnight.
func (m *machine) midnight(generation uint32) {
	if generation != m.midnightAt {
		return
	}
	now := m.read()
	if rest := m.untilLeap(now); rest > 0 && rest < 23*time.Hour {
		m.scheduleMidnight()
		return
	}
	step := -time.Second
	if m.armed == wire.LeapDelete {
		step = time.Second
	}
	m.clock.Leap += int64(step / time.Second)
	m.armed = wire.LeapNone
	if m.program != nil {
		m.program.leaped(step, now.Wall, m.read())
		m.schedule()
	}
}

// ahead says how many true nanoseconds from now the machine should be woken for
// something that is due when its own clocks have gone on by wait. Within the present
// second the frequency is known and the answer exact; further on it errs on the early
// side, and the caller looks again.
func (m *machine) ahead(wait time.Duration) int64 {
	if wait <= 0 {
		return 0
	}
	exact := int64(math.Ceil(float64(wait) / (1 + m.osc.Frequency())))
	boundary := m.osc.Next() - m.world.now
	if exact <= boundary || m.osc.Constant() {
		return exact
	}
	// 100 ppm is more than the frequency changes meanwhile; the rest is a matter of one
	// more look at the beginning of each second.
	target := int64(float64(exact) * (1 - 1e-4))
	if target <= boundary {
		return boundary
	}
	return target - (m.world.now+target)%second
}

// schedule sets the machine's timer for the program's deadline.
func (m *machine) schedule() {
	if m.program == nil {
		return
	}
	due := m.program.deadline()
	if due == m.due {
		return
	}
	m.due = due
	m.timerGen++
	if due != ntptime.Never {
		m.setTimer()
	}
}

func (m *machine) setTimer() {
	at := m.world.now + m.ahead(m.due.Sub(m.read().Raw))
	m.world.events.Push(max(at, m.asleep), happening{kind: doWake, machine: m.index, generation: m.timerGen})
}

// wake runs the program's timer, if it is due by the machine's own clock.
func (m *machine) wake(generation uint32) {
	if generation != m.timerGen || m.program == nil {
		return
	}
	if m.world.now < m.asleep || m.read().Raw < m.due {
		m.setTimer()
		return
	}
	now := m.timestamp()
	if early := m.due.Sub(now.Raw); early > 0 { // by the noise of reading
		now.Raw, now.Wall = now.Raw.Add(early), now.Wall.Add(early)
	}
	m.due = ntptime.Never
	m.program.timer(now)
	m.schedule()
}

// tendLater has the program look after what it does now and then; the reading of the clock
// is without noise, so that it takes nothing from the noise that packets meet.
func (m *machine) tendLater(wait time.Duration) {
	m.world.events.Push(m.world.now+int64(wait), happening{kind: doTend, machine: m.index, generation: m.life})
}

func (m *machine) tend(life uint32) {
	if life != m.life || m.program == nil {
		return
	}
	m.program.tend(m.read())
	m.schedule()
}

// arrive hands a datagram to the program; what needs an answer waits for the
// machine's turnaround.
func (m *machine) arrive(p *packet) {
	if m.program == nil || m.world.now < m.asleep {
		m.world.give(p)
		return
	}
	p.arrived = m.timestamp()
	if m.program.receive(p, p.arrived) {
		m.world.give(p)
		m.schedule()
		return
	}
	if m.host.Turnaround == 0 {
		m.answer(p)
		return
	}
	m.world.events.Push(m.world.now+int64(m.host.Turnaround), happening{kind: doServe, machine: m.index, packet: p})
}

// answer lets the program reply to a request.
func (m *machine) answer(p *packet) {
	if m.program != nil {
		m.program.serve(p, m.timestamp())
		m.schedule()
	}
	m.world.give(p)
}

// send puts a datagram of this machine on its way, and counts it.
func (m *machine) send(from uint16, to netip.AddrPort, data []byte) {
	m.stats.sent(m.world.now)
	m.world.send(m.index, netip.AddrPortFrom(m.address, from), to, data)
}
