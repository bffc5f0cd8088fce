package simulate

import (
	"net/netip"
	"path/filepath"
	"time"

	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
	"timeball/internal/wire"
)

// truth is the record that knows the true time, nil if none does.
func truth(h *scenario.Host) *scenario.Record {
	for i := range h.Replays {
		if r := h.Replays[i].Record; r.Truth {
			return r
		}
	}
	return nil
}

// firstReplayID begins the ids of sources without an association.
const firstReplayID model.SourceID = 1 << 20

// beginReplays announces the replayed sources and schedules their exchanges.
func (c *core) beginReplays(now ntptime.Instant) {
	for i := range c.m.host.Replays {
		r := &c.m.host.Replays[i]
		options := engine.SourceOptions(&r.Source)
		options.Name = filepath.Base(r.Record.File)
		c.system.AddSource(now, firstReplayID+model.SourceID(i), options)
		c.m.scheduleReplay(i, 0)
	}
}

// scheduleReplay waits for the reply of the first exchange from number next on that is
// still to come.
func (m *machine) scheduleReplay(replay, next int) {
	xs := m.host.Replays[replay].Record.Exchanges
	for next < len(xs) && xs[next].T4 < m.world.now {
		next++
	}
	if next < len(xs) {
		m.world.events.Push(xs[next].T4, happening{kind: doReplay, machine: m.index, generation: m.life, replay: replay, next: next})
	}
}

// replayed lets the reply of a recorded exchange come in.
func (m *machine) replayed(e *happening) {
	m.plain.take(&m.host.Replays[e.replay].Record.Exchanges[e.next])
	if c, is := m.program.(*core); is && e.generation == m.life {
		c.replay(e.replay, e.next, m.timestamp())
		m.schedule()
	}
	m.scheduleReplay(e.replay, e.next+1)
}

// replay hands a recorded exchange to the system process, as its association would.
func (c *core) replay(replay, number int, now ntptime.Instant) {
	c.present = now
	x := &c.m.host.Replays[replay].Record.Exchanges[number]
	id := firstReplayID + model.SourceID(replay)
	t1, start := now, c.m.world.scenario.Start
	took := time.Duration(x.T4 - x.T1)
	t1.Raw, t1.Wall = now.Raw.Add(-took), now.Wall.Add(-took)
	sample := model.Sample{
		Source: id, T1: t1, T4: now, T2: start + ntptime.Wall(x.T2), T3: start + ntptime.Wall(x.T3),
		Server: model.ServerState{
			Stratum: x.Stratum, Precision: precision, ReferenceID: wire.ReferenceName("RPLY"), ReferenceTime: start + ntptime.Wall(x.T2),
			RootDelay: x.RootDelay, RootDispersion: x.RootDispersion,
		},
	}
	status := model.SourceStatus{
		Source: id, Address: netip.AddrPortFrom(replayAddress, ntpPort), Mode: wire.ModeClient, RemoteMode: wire.ModeServer,
		Reach: uint8(1<<min(number+1, 8) - 1), Server: sample.Server, LastPacket: now, Sent: uint64(number + 1), Accepted: uint64(number + 1),
	}
	c.toSystem(func() { c.system.OnSample(now, &sample) })
	c.toSystem(func() { c.system.OnStatus(now, &status) })
}

// replayAddress stands for the servers of records (RFC 5737, for documentation).
var replayAddress = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// plainDepth is RFC 5905's NSTAGE.
const plainDepth = 8

// plain is the clock filter of RFC 5905 §10 at its simplest, for comparison: of the last
// eight exchanges that of least delay. It is judged by how wrong that one's offset was at
// its own time, so that a clock which follows it perfectly does as well, and none better.
type plain struct {
	last  [plainDepth]*scenario.Recorded
	n     int
	error float64 // s, of the exchange chosen, clock − true time
	stats statistics
}

func (p *plain) take(x *scenario.Recorded) {
	p.last[p.n%plainDepth] = x
	p.n++
	best := x
	for _, other := range p.last[:min(p.n, plainDepth)] {
		if other.Delay() < best.Delay() {
			best = other
		}
	}
	p.error = best.Offset() - best.TrueOffset
}

func (p *plain) sample(k int64) {
	if p.n > 0 {
		p.stats.sample(k, p.error, 0)
	}
}
