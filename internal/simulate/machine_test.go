package simulate

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/virtual"
	"timeball/internal/wire"
)

// recorder is a program that does what it is told at its deadlines and notes what
// happens to it.
type recorder struct {
	idle
	m       *machine
	due     []ntptime.Raw
	onTimer func(i int, now ntptime.Instant)
	fired   []ntptime.Instant
	jumps   []model.ClockJump
	leaps   []time.Duration
	heard   []ntptime.Instant
	stopped int
}

func (r *recorder) deadline() ntptime.Raw {
	if len(r.fired) < len(r.due) {
		return r.due[len(r.fired)]
	}
	return ntptime.Never
}

func (r *recorder) timer(now ntptime.Instant) {
	r.fired = append(r.fired, now)
	if r.onTimer != nil {
		r.onTimer(len(r.fired)-1, now)
	}
}

func (r *recorder) receive(_ *packet, now ntptime.Instant) bool {
	r.heard = append(r.heard, now)
	return true
}

func (r *recorder) jumped(by, slept time.Duration, now ntptime.Instant) {
	r.jumps = append(r.jumps, model.ClockJump{At: now, By: by, Slept: slept})
}

func (r *recorder) leaped(step time.Duration, _ ntptime.Wall, _ ntptime.Instant) {
	r.leaps = append(r.leaps, step)
}

func (r *recorder) stop() { r.stopped++ }

// record runs a scenario with a recorder on each host; prepare is called for each
// program that starts.
func record(t *testing.T, text string, prepare func(r *recorder)) (*world, []*recorder) {
	t.Helper()
	var all []*recorder
	w := newWorld(parse(t, text), 1, true, func(m *machine) program {
		r := &recorder{m: m}
		if prepare != nil {
			prepare(r)
		}
		all = append(all, r)
		return r
	})
	if !w.run(nil) {
		t.Fatal("the run was stopped")
	}
	return w, all
}

func TestTimersFireWhenTheMachinesOwnOscillatorSaysSo(t *testing.T) {
	for _, clock := range []string{"", "frequency: 100ppm", "frequency: -3000ppm, wander: 1e-7", "wander: 1e-9, read_noise: 1us, offset: 5s"} {
		t.Run(clock, func(t *testing.T) {
			due := []ntptime.Raw{rawOrigin, rawOrigin.Add(1), rawOrigin.Add(700 * time.Millisecond), rawOrigin.Add(64 * time.Second), rawOrigin.Add(64 * time.Second), rawOrigin.Add(5000 * time.Second)}
			_, all := record(t, "duration: 6000s\nhosts: {a: {clock: {"+clock+"}}}", func(r *recorder) {
				r.due = due
				r.onTimer = func(i int, now ntptime.Instant) {
					late := r.m.read().Raw.Sub(due[i])
					if late < 0 || late > 2 || now.Raw < due[i] {
						t.Errorf("deadline %d: fired %v late, reading %v; want within 2 ns and not before", i, late, now.Raw.Sub(due[i]))
					}
				}
			})
			if got := len(all[0].fired); got != len(due) {
				t.Errorf("got %d timers fired, want %d", got, len(due))
			}
		})
	}
}

func TestClockShowsOffsetAndFrequencyOfItsOscillator(t *testing.T) {
	w, _ := record(t, "duration: 1000s\nhosts: {a: {clock: {offset: 250ms, frequency: 12ppm}}}", nil)
	now := w.machines[0].read()
	trueWall := w.scenario.Start.Add(1000 * time.Second)
	// offset is reference − local: the clock starts 250 ms behind, and gains 12 ms.
	if got, want := now.Wall.Sub(trueWall), -238*time.Millisecond; (got - want).Abs() > 1 {
		t.Errorf("got the clock %v ahead, want %v", got, want)
	}
	if got, want := now.Raw-rawOrigin, ntptime.Raw(1000*time.Second+12*time.Millisecond); (got - want).Sub(0).Abs() > 1 {
		t.Errorf("got raw %v, want %v", got, want)
	}
	near(t, "error in the series", w.machines[0].stats.series[500], -0.244, 1e-9)
}

func TestCorrectionsTakeEffectAtTheVeryInstant(t *testing.T) {
	w, all := record(t, "duration: 300s\nhosts: {a: {clock: {frequency: 10ppm}}}", func(r *recorder) {
		r.due = []ntptime.Raw{rawOrigin.Add(100 * time.Second), rawOrigin.Add(200 * time.Second)}
		r.onTimer = func(i int, now ntptime.Instant) {
			c := model.Correction{Frequency: -10 * ntptime.PPM}
			if i == 0 {
				c.Step, c.Slew = -time.Millisecond, 5*ntptime.PPM
			}
			a := r.m.apply(c)
			if got := a.At.Wall.Sub(a.BeforeWall); got != c.Step {
				t.Errorf("got step %v, want %v", got, c.Step)
			}
			if a.At.Raw != now.Raw {
				t.Errorf("got applied at %v, want now", a.At.Raw.Sub(now.Raw))
			}
			near(t, "rate", float64(a.Rate), float64(c.Frequency+c.Slew), 1e-5)
		}
	})
	series := w.machines[0].stats.series
	for _, c := range []struct {
		k    int
		want float64
	}{{50, 500e-6}, {99, 990e-6}, {101, 5e-6}, {150, 250e-6}, {199, 495e-6}, {250, 500e-6}, {300, 500e-6}} {
		if got := series[c.k]; math.Abs(got-c.want) > 50e-9+1e-5*math.Abs(c.want) {
			t.Errorf("second %d: got error %.9f s, want %.9f", c.k, got, c.want)
		}
	}
	near(t, "RMS frequency error", w.machines[0].stats.figures(0).RMSFrequencyError, math.Sqrt((100*100e-12+100*25e-12)/300), 1e-3)
	if got := w.machines[0].stats.figures(0).Steps; got != 1 || len(all) != 1 {
		t.Errorf("got %v steps, want 1", got)
	}
}

func TestFrequencyIsLimitedAndRoundedAsByAKernel(t *testing.T) {
	record(t, "duration: 1s\nhosts: {a: {}}", func(r *recorder) {
		r.due = []ntptime.Raw{rawOrigin}
		r.onTimer = func(int, ntptime.Instant) {
			if a := r.m.apply(model.Correction{Frequency: 1.23456789 * ntptime.PPM}); math.Abs(float64(a.Rate)-1.23456789e-6) > virtual.FrequencyResolution {
				t.Errorf("got rate %v, want it within a step of 2^-16 ppm", a.Rate)
			} else if steps := float64(a.Rate) / virtual.FrequencyResolution; math.Abs(steps-math.Round(steps)) > 1e-6 {
				t.Errorf("got %v steps of 2^-16 ppm, want a whole number", steps)
			}
			if a := r.m.apply(model.Correction{Slew: 0.5}); float64(a.Rate) > 0.1000001 {
				t.Errorf("got rate %v, want at most 10 %%", a.Rate)
			}
		}
	})
}

func TestClockSetByOthersIsNoticedWithinASecond(t *testing.T) {
	w, all := record(t, "duration: 100s\nhosts: {a: {}}\nevents: [{at: 50.25s, host: a, offset_step: 300ms}]", nil)
	jumps := all[0].jumps
	if len(jumps) != 1 || jumps[0].By != -300*time.Millisecond || jumps[0].Slept != 0 {
		t.Fatalf("got jumps %v, want one of −300 ms: the offset grew", jumps)
	}
	if at := jumps[0].At.Raw.Sub(rawOrigin); at < 50*time.Second || at > 51*time.Second+time.Millisecond {
		t.Errorf("got it noticed at %v, want within a second of 50.25 s", at)
	}
	near(t, "error afterwards", w.machines[0].stats.series[90], -0.3, 1e-9)
}

func TestSleepStopsTheOscillatorAndNotTheClock(t *testing.T) {
	w, all := record(t, pair("400s", "0s", "", "delay: 1ms", 1, "events: [{at: 100s, host: client, suspend: 100s}]"), func(r *recorder) {
		if r.m.index == 0 {
			for i := range 300 {
				r.due = append(r.due, rawOrigin.Add(time.Duration(i+1)*time.Second))
			}
			r.onTimer = func(int, ntptime.Instant) {
				r.m.send(ntpPort, netip.AddrPortFrom(firstAddress.Next(), ntpPort), []byte("tick"))
			}
			return
		}
		r.due = []ntptime.Raw{rawOrigin.Add(50 * time.Second), rawOrigin.Add(150 * time.Second)}
	})
	client := all[1]
	if got := client.jumps; len(got) != 1 || got[0].By != 100*time.Second || got[0].Slept != 100*time.Second {
		t.Fatalf("got jumps %v, want one of 100 s slept", got)
	}
	if got := len(client.fired); got != 2 {
		t.Fatalf("got %d timers, want both", got)
	}
	// 150 s of raw time are 250 s of true time, the wall clock's time.
	if got := client.fired[1].Wall.Sub(w.scenario.Start); (got - 250*time.Second).Abs() > 2 {
		t.Errorf("got the second timer at %v, want at 250 s", got)
	}
	if got := len(client.heard); got != 200 {
		t.Errorf("got %d packets, want those of the 200 s awake", got)
	}
}

func TestPacketsAreCopiedWhenSent(t *testing.T) {
	var got []string
	w := newWorld(parse(t, pair("10s", "0s", "", "delay: 1s", 1, "")), 1, false, func(m *machine) program {
		if m.index == 0 {
			return &listener{heard: &got}
		}
		r := &recorder{m: m, due: []ntptime.Raw{rawOrigin.Add(time.Second)}}
		r.onTimer = func(int, ntptime.Instant) {
			data := []byte("first")
			m.send(ntpPort, netip.AddrPortFrom(firstAddress, ntpPort), data)
			copy(data, "other")
		}
		return r
	})
	w.run(nil)
	if len(got) != 1 || got[0] != "first" {
		t.Errorf("got %q, want what was sent", got)
	}
}

// listener notes the data of each packet.
type listener struct {
	idle
	heard *[]string
}

func (l *listener) receive(p *packet, _ ntptime.Instant) bool {
	*l.heard = append(*l.heard, string(p.data))
	return true
}

func TestKernelMakesTheLeapSecondItIsArmedFor(t *testing.T) {
	for _, c := range []struct {
		kind string
		leap wire.Leap
		step time.Duration
	}{{"insert", wire.LeapInsert, -time.Second}, {"delete", wire.LeapDelete, time.Second}} {
		t.Run(c.kind, func(t *testing.T) {
			text := "start: 2026-12-31T23:00:00.5Z\nduration: 7200s\nleap: {at: 2027-01-01T00:00:00Z, kind: " + c.kind + "}\nhosts:\n  armed: {clock: {frequency: 1ppm}}\n  ignorant: {}"
			w, all := record(t, text, func(r *recorder) {
				if r.m.index == 0 {
					r.due = []ntptime.Raw{rawOrigin.Add(time.Minute)}
					r.onTimer = func(int, ntptime.Instant) { r.m.apply(model.Correction{Kernel: model.KernelState{Leap: c.leap}}) }
				}
			})
			if got := all[0].leaps; len(got) != 1 || got[0] != c.step {
				t.Fatalf("got leaps %v, want one of %v", got, c.step)
			}
			near(t, "error of the one that leapt", w.machines[0].stats.series[7000], 7000e-6, 1e-6)
			near(t, "error of the one that did not", w.machines[1].stats.series[7000], -c.step.Seconds(), 1e-9)
			for k, x := range w.machines[0].stats.series {
				if math.Abs(x) > 0.01 {
					t.Fatalf("second %d: got error %v, want the leap made in the right second", k, x)
				}
			}
			if got := w.machines[1].stats.series[3000]; got != 0 {
				t.Errorf("got error %v before the leap, want 0", got)
			}
		})
	}
}

func TestStopAndStartMakeAnotherLifeOfTheProgram(t *testing.T) {
	text := "duration: 100s\nhosts: {a: {}}\nevents:\n  - {at: 20s, host: a, stop: true}\n  - {at: 40s, host: a, start: {offset: 2s}}\n  - {at: 60s, host: a, start: true}"
	w, all := record(t, text, func(r *recorder) {
		r.due = []ntptime.Raw{r.m.read().Raw.Add(time.Second)}
		r.onTimer = func(int, ntptime.Instant) {
			r.m.apply(model.Correction{Frequency: 10 * ntptime.PPM, Slew: 100 * ntptime.PPM})
		}
	})
	if len(all) != 3 || all[0].stopped != 1 || all[1].stopped != 1 || all[2].stopped != 0 {
		t.Fatalf("got %d lives, want three, the first two of them stopped", len(all))
	}
	series := w.machines[0].stats.series
	near(t, "error when the daemon stopped", series[20], 19*110e-6, 1e-3)
	near(t, "error with the frequency that it left", series[30]-series[20], 10*10e-6, 1e-3)
	near(t, "error after the reboot, by the hardware clock", series[41], -2, 1e-6)
	near(t, "error after the third start: the slew has ended, the frequency stays", series[61]-series[60], 10e-6, 1e-3)
}

func TestRebootKeepsTheDriftOnlyIfItIsSaid(t *testing.T) {
	for _, keep := range []bool{true, false} {
		text := fmt.Sprintf("duration: 50s\nhosts: {a: {}}\nevents: [{at: 20s, host: a, stop: true}, {at: 30s, host: a, start: {keep_drift: %v}}]", keep)
		w, _ := record(t, text, func(r *recorder) {
			if r.m.world.now == 0 {
				r.m.memory = memory{gateUsed: true, frequency: 5 * ntptime.PPM, frequencyError: ntptime.PPM}
			}
		})
		got := w.machines[0].memory
		if (got.frequencyError != 0) != keep || got.gateUsed {
			t.Errorf("keep_drift %v: got %+v, want the drift %v and the gate open", keep, got, keep)
		}
	}
}
