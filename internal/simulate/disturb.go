package simulate

import (
	"fmt"
	"time"

	"timeball/internal/config"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
)

// memory is what outlives a program on its machine.
type memory struct {
	gateUsed       bool              // the first correction has been made
	frequency      ntptime.Frequency // the drift file
	frequencyError ntptime.Frequency // 0: there is none
	lastTime       ntptime.Wall      // known to have passed; 0: none
}

// event does to the machine what a row of `events:` says. Changes of the oscillator
// are known to it from the start.
func (m *machine) event(e *scenario.Event) {
	m.advance(m.world.now)
	m.marks = append(m.marks, mark{m.world.now, describe(e)})
	switch e.Kind {
	case scenario.OffsetStep:
		m.clock.Ahead -= e.Value.Seconds()
		m.disturbed(-e.Value, 0)
	case scenario.Suspend:
		m.suspended += e.Value
		m.asleep = m.world.now + int64(e.Value)
		m.disturbed(e.Value, e.Value)
	case scenario.Reload:
		m.config = e.Config
		if p, able := m.program.(interface {
			reload(*config.Config, ntptime.Instant)
		}); able {
			p.reload(e.Config, m.timestamp())
			m.schedule()
		}
	case scenario.Stop:
		m.halt()
	case scenario.Start:
		m.halt()
		if e.Reboot != nil {
			m.reboot(e.Reboot)
		}
		m.begin()
	}
}

// describe is the event in a few words, for pictures.
func describe(e *scenario.Event) string {
	switch e.Kind {
	case scenario.FrequencyStep:
		return fmt.Sprintf("frequency %+.3g ppm", e.Frequency.PPM())
	case scenario.OffsetStep:
		return "clock set by " + scenario.FormatSeconds(-e.Value.Seconds())
	case scenario.WanderChange:
		return fmt.Sprintf("wander %g", e.Wander)
	case scenario.Suspend:
		return "sleeps " + scenario.FormatSeconds(e.Value.Seconds())
	}
	return string(e.Kind)
}

// disturbed notes that the clock has jumped without the program's doing; the program
// notices when it next looks, which it does once a second.
func (m *machine) disturbed(by, slept time.Duration) {
	m.jump += by
	m.slept += slept
	look := max(m.world.now, m.asleep)
	look += second - look%second
	m.world.events.Push(look, happening{kind: doJump, machine: m.index})
}

func (m *machine) lookForJump() {
	if m.jump == 0 && m.slept == 0 || m.program == nil || m.world.now < m.asleep {
		return
	}
	by, slept := m.jump, m.slept
	m.jump, m.slept = 0, 0
	m.program.jumped(by, slept, m.timestamp())
	m.schedule()
}

// halt ends the program: a slew in progress ends, the frequency stays.
func (m *machine) halt() {
	if m.program == nil {
		return
	}
	m.program.stop()
	m.program = nil
	m.timerGen++
	m.due = ntptime.Never
	m.clock.Set(m.raw(m.world.now), 0, m.clock.Frequency, 0)
	m.jump, m.slept = 0, 0
}

// reboot makes of the machine what it is after its power was off: the kernel's
// frequency is 0 and the time that of the hardware clock.
func (m *machine) reboot(boot *scenario.Reboot) {
	raw := m.raw(m.world.now)
	wrong := m.trueError(m.world.now, raw) + boot.Offset.Seconds()
	m.clock.Set(raw, -wrong, 0, 0)
	m.memory.gateUsed = false // it holds for one boot
	if !boot.KeepDrift {
		m.memory = memory{}
	}
}
