package simulate

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Replay is a source of a host whose exchanges are played from a record. The host's
// oscillator is that of the record; when to poll, and what comes back, is history.
type Replay struct {
	Source config.Source // its options; there is no association for it
	Record *Record
}

// replays takes the rows `replay: FILE` out of a host's configuration. In their place it
// puts a server of a name that no host has, so that their options are read as any source's;
// take finds them by it.
func (r *reader) replays(n *yaml.Node, path string) (map[string]*Record, *yaml.Node) {
	records := map[string]*Record{}
	copied := *n
	copied.Content = append([]*yaml.Node(nil), n.Content...)
	for i := 0; i+1 < len(n.Content); i += 2 {
		sources := r.follow(n.Content[i+1], path)
		if n.Content[i].Value != "sources" || sources.Kind != yaml.SequenceNode {
			continue
		}
		rows := *sources
		rows.Content = append([]*yaml.Node(nil), sources.Content...)
		for j, row := range rows.Content {
			name := fmt.Sprintf("replay-%d.invalid", len(records)+1)
			if record, row := r.replay(r.follow(row, path), join(path, "sources"), name); row != nil {
				records[name], rows.Content[j] = record, row
			}
		}
		copied.Content[i+1] = &rows
	}
	return records, &copied
}

// replay reads one row; nil if it is an ordinary source.
func (r *reader) replay(n *yaml.Node, path, name string) (*Record, *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	var file, from string
	var at *yaml.Node
	row := *n
	row.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], r.follow(n.Content[i+1], path)
		switch key.Value {
		case "replay":
			file, _ = r.text(value, join(path, "replay"), "the name of a file")
			at = value
			asServer, named := *key, *value
			asServer.Value, named.Value, named.Tag, named.Style = "server", name, "!!str", 0
			row.Content = append(row.Content, &asServer, &named)
		case "from":
			from, _ = r.text(value, join(path, "from"), "the address of a source of the record")
		default:
			row.Content = append(row.Content, key, value)
		}
	}
	if at == nil {
		return nil, nil
	}
	record, err := ReadRecord(r.beside(file), from)
	if err != nil {
		r.fail(at, join(path, "replay"), "%v", err)
		return nil, &row
	}
	return record, &row
}

// beside gives a file's path where it is relative: to the scenario's directory.
func (r *reader) beside(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(filepath.Dir(r.file), file)
}

// take moves the sources that are replayed from a configuration to the host.
func (h *Host) take(records map[string]*Record) {
	if h.Config == nil || len(records) == 0 {
		return
	}
	var others []config.Source
	for _, source := range h.Config.Sources {
		switch record, is := records[source.Host]; {
		case !is:
			others = append(others, source)
		case record != nil: // else a problem has been reported
			h.Replays = append(h.Replays, Replay{source, record})
		}
	}
	h.Config.Sources = others
}

// checkReplays looks at what a replay needs of its host and gives the scenario its length.
func (r *reader) checkReplays(root *yaml.Node, s *Scenario) {
	longest := time.Duration(0)
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if len(h.Replays) == 0 {
			continue
		}
		clock := h.Clock
		if clock.Offset = 0; !clock.Perfect() {
			r.fail(&yaml.Node{Line: h.Line, Column: h.Column}, "hosts."+h.Name+".clock",
				"a host that replays has the oscillator of its record; leave all but offset out")
		}
		for j := range h.Replays {
			longest = max(longest, h.Replays[j].Record.Span())
		}
	}
	if s.Duration == 0 {
		s.Duration = longest
	}
}

// truth is the record that knows the true time, nil if none does.
func (h *Host) truth() *Record {
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
		m.world.heap.push(happening{at: xs[next].T4, kind: doReplay, machine: m.index, generation: m.life, replay: replay, next: next})
	}
}

// replayed lets the reply of a recorded exchange come in.
func (m *machine) replayed(e *happening) {
	m.plain.take(&m.host.Replays[e.replay].Record.Exchanges[e.next])
	if c, is := m.program.(*core); is && e.generation == m.life {
		c.replay(e.replay, e.next, m.stamp())
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
	last  [plainDepth]*Recorded
	n     int
	error float64 // s, of the exchange chosen, clock − true time
	stats statistics
}

func (p *plain) take(x *Recorded) {
	p.last[p.n%plainDepth] = x
	p.n++
	best := x
	for _, other := range p.last[:min(p.n, plainDepth)] {
		if other.delay() < best.delay() {
			best = other
		}
	}
	p.error = best.offset() - best.TrueOffset
}

func (p *plain) sample(k int64) {
	if p.n > 0 {
		p.stats.sample(k, p.error, 0)
	}
}
