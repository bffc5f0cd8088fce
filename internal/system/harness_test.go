package system

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
	"timeball/internal/virtual"
	"timeball/internal/wire"
)

// This file is a small event-driven simulator of one host with N servers, after
// the models of the accuracy tables: an oscillator whose frequency is a random
// walk with one step a second, links with a base delay and exponential jitter,
// servers without error. It exists to test the estimator in milliseconds; the
// whole daemon runs through the same models in `timeball simulate`.

const trueStart = int64(1_800_000_000e9) // wall time at t = 0, ns

// oscillator is a raw clock: phase[k] is ∫f dt up to second k.
type oscillator struct {
	freq, phase []float64
}

func newOscillator(seed uint64, seconds int, f0, wander float64, extra func(k int) float64) *oscillator {
	modelled := virtual.NewOscillator(scenario.Clock{Frequency: ntptime.Frequency(f0), Wander: wander}, nil, virtual.Stream{Rand: rand.New(rand.NewPCG(seed, 101))})
	o := &oscillator{freq: make([]float64, seconds+2), phase: make([]float64, seconds+3)}
	for k := range o.freq {
		modelled.Draw()
		o.freq[k] = modelled.Frequency()
		if extra != nil {
			o.freq[k] += extra(k)
		}
		o.phase[k+1] = o.phase[k] + o.freq[k]
	}
	return o
}

// raw returns the raw reading at true time t, seconds.
func (o *oscillator) raw(t float64) float64 {
	k := min(int(t), len(o.freq)-1)
	return t + o.phase[k] + o.freq[k]*(t-float64(k))
}

// trueTime is the inverse of raw.
func (o *oscillator) trueTime(raw float64) float64 {
	t := raw
	for range 4 {
		t -= o.raw(max(t, 0)) - raw
	}
	return max(t, 0)
}

// link is one path; delay functions return a negative value for a lost packet.
type link struct {
	base, jitter float64
	loss         float64
	spike        float64 // probability of 20 ms·E more
	forward      func(t float64, r *rand.Rand) float64
	backward     func(t float64, r *rand.Rand) float64
	down         func(t float64) bool
	offset       func(t float64) float64 // the server's error
	draw         func(r *rand.Rand) float64
}

func (l *link) delay(t float64, r *rand.Rand, extra func(t float64, r *rand.Rand) float64) float64 {
	if l.draw != nil {
		d := l.base + l.draw(r)
		if extra != nil {
			d += extra(t, r)
		}
		return d
	}
	d := l.base + l.jitter*r.ExpFloat64()
	if l.spike > 0 && r.Float64() < l.spike {
		d += 20e-3 * r.ExpFloat64()
	}
	if extra != nil {
		d += extra(t, r)
	}
	if (l.loss > 0 && r.Float64() < l.loss) || (l.down != nil && l.down(t)) {
		return -1
	}
	return d
}

// row is one scenario.
type row struct {
	name             string
	duration, settle int
	x0, f0, wander   float64
	extra            func(k int) float64
	links            []link
	minPoll, maxPoll ntptime.Log2
	step             bool
	config           func(c *Config)
	noise            float64 // s, Gaussian, each reading of a timestamp
	probe            func(h *host, t float64)
	turnaround       float64
}

// figures are what a run is judged by.
type figures struct {
	rms, max, freq, packets float64
	toMilli, toHundred      float64
	covered, whole, bound   float64 // share of seconds within the bound, without and with half the base; mean bound
	base                    float64
	steps                   int
	errors                  []float64
}

// client is an association of the harness: polls as told, nothing else.
type client struct {
	id       model.SourceID
	link     *link
	rand     [2]*rand.Rand
	interval float64
	next     int // number of the pending poll; older timers are void
	burst    int
	status   model.SourceStatus
}

type host struct {
	row     *row
	osc     *oscillator
	sys     *System
	out     Output
	events  virtual.Queue[float64, func(t float64)]
	now     float64
	rawBase float64 // the disciplined line: wall − raw = base + rate (raw − rawBase)
	base    float64
	rate    float64
	clients []*client
	sent    int
	timer   float64
	snap    *model.Snapshot
	snapAt  float64
	noise   *rand.Rand
	log     []model.Event
}

const rawStart = 1000.0

func (h *host) instant(t float64) ntptime.Instant {
	raw := h.osc.raw(t)
	d := h.base + h.rate*(raw-h.rawBase)
	r := int64(math.Round((rawStart + raw) * 1e9))
	return ntptime.Instant{Raw: ntptime.Raw(r), Wall: ntptime.Wall(r - int64(rawStart*1e9) + trueStart + int64(math.Round(d*1e9)))}
}

func (h *host) errorAt(t float64) float64 {
	raw := h.osc.raw(t)
	return raw - t + h.base + h.rate*(raw-h.rawBase)
}

func (h *host) at(t float64, do func(t float64)) {
	h.events.Push(t, do)
}

func newHost(r *row, seed uint64) *host {
	h := &host{row: r, osc: newOscillator(seed, r.duration+2000, r.f0, r.wander, r.extra), base: r.x0, timer: math.Inf(1)}
	h.noise = rand.New(rand.NewPCG(seed, 999))
	cfg := Config{MinSources: 1, MaxDistance: 1500 * time.Millisecond, Panic: 1000 * time.Second, PanicGateOpen: true, Precision: -24}
	if r.step {
		cfg.StepThreshold, cfg.StepUpdates = time.Second, 3
	}
	if r.config != nil {
		r.config(&cfg)
	}
	h.sys = New(cfg, h.instant(0))
	for i := range r.links {
		h.addClient(seed, i)
	}
	return h
}

func (h *host) addClient(seed uint64, i int) *client {
	r := h.row
	c := &client{id: model.SourceID(i + 1), link: &r.links[i], interval: r.minPoll.Seconds(), burst: 8}
	c.rand[0] = rand.New(rand.NewPCG(seed, uint64(1000+2*i)))
	c.rand[1] = rand.New(rand.NewPCG(seed, uint64(1001+2*i)))
	c.status = model.SourceStatus{Source: c.id, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 123)}
	h.clients = append(h.clients, c)
	h.sys.AddSource(h.instant(h.now), c.id, SourceOptions{Name: "s", MinPoll: r.minPoll, MaxPoll: r.maxPoll})
	h.schedule(c, h.now+0.1)
	return c
}

func (h *host) schedule(c *client, t float64) {
	c.next++
	n := c.next
	h.at(t, func(t float64) {
		if n == c.next {
			h.transmit(c, t)
		}
	})
}

func (h *host) transmit(c *client, t float64) {
	h.sent++
	gap := c.interval
	if c.burst > 0 {
		c.burst--
		gap = math.Min(2, gap)
	}
	h.schedule(c, t+gap*(1+0.02*(c.rand[0].Float64()-0.5)))
	c.status.Reach <<= 1
	c.status.Unanswered++
	h.status(c, t)
	t1 := h.timestamp(t)
	d1 := c.link.delay(t, c.rand[0], c.link.forward)
	if d1 < 0 {
		return
	}
	ts := t + d1
	d2 := c.link.delay(ts, c.rand[1], c.link.backward)
	if d2 < 0 {
		return
	}
	h.at(ts+h.row.turnaround+d2, func(t4 float64) { h.receive(c, t1, t, ts, t4) })
}

// timestamp is the clock's reading with the row's noise.
func (h *host) timestamp(t float64) ntptime.Instant {
	i := h.instant(t)
	if h.row.noise > 0 {
		n := int64(h.noise.NormFloat64() * h.row.noise * 1e9)
		i.Raw += ntptime.Raw(n)
		i.Wall += ntptime.Wall(n)
	}
	return i
}

func (h *host) status(c *client, t float64) {
	h.out.Reset()
	h.sys.OnStatus(h.instant(t), &c.status, &h.out)
	h.act(t)
}

func (h *host) receive(c *client, t1 ntptime.Instant, sent, ts, t float64) {
	off := 0.0
	if c.link.offset != nil {
		off = c.link.offset(ts)
	}
	wall := func(x float64) ntptime.Wall { return ntptime.Wall(trueStart + int64(math.Round((x+off)*1e9))) }
	m := model.Sample{Source: c.id, T1: t1, T4: h.timestamp(t), T2: wall(ts), T3: wall(ts + h.row.turnaround),
		Server: model.ServerState{Stratum: 1, Precision: -24, ReferenceID: wire.ReferenceName("GPS")}}
	c.status.Reach |= 1
	c.status.Unanswered = 0
	c.status.Server = m.Server
	c.status.LastPacket = m.T4
	h.out.Reset()
	h.sys.OnSample(h.instant(t), &m, &h.out)
	h.act(t)
	h.status(c, t)
}

// act does what the system process wants done.
func (h *host) act(t float64) {
	h.log = append(h.log, h.out.Events...)
	hints := slices.Clone(h.out.Hints)
	if h.out.HasCorrection {
		h.apply(t, h.out.Correction)
	}
	if h.out.Changed {
		h.snap, h.snapAt = h.sys.Snapshot(h.instant(t)), t
	}
	for _, n := range hints {
		c := h.clients[n.Source-1]
		c.interval = n.Interval.Seconds()
		if n.Soon > 0 {
			c.burst = 0
			h.schedule(c, t+n.Soon.Seconds())
		} else if c.burst == 0 || n.Interval < 2*time.Second {
			h.schedule(c, t+c.interval*(1+0.02*(c.rand[0].Float64()-0.5)))
		}
	}
	h.arm(t)
}

func (h *host) arm(t float64) {
	d := h.sys.Deadline()
	if d == ntptime.Never {
		return
	}
	due := max(h.osc.trueTime(float64(d)*1e-9-rawStart), t)
	if due == h.timer {
		return
	}
	h.timer = due
	h.at(due, func(t float64) {
		if t != h.timer {
			return
		}
		h.timer = math.Inf(1)
		i := h.instant(t)
		if d := h.sys.Deadline(); d > i.Raw && d-i.Raw < 1000 {
			i.Raw = d // the inverse is good to a nanosecond or so
		}
		h.out.Reset()
		h.sys.OnTimer(i, &h.out)
		h.act(t)
	})
}

func (h *host) apply(t float64, c model.Correction) {
	raw := h.osc.raw(t)
	h.base += h.rate*(raw-h.rawBase) + c.Step.Seconds()
	h.rawBase, h.rate = raw, float64(c.Frequency+c.Slew)
	var out Output
	h.sys.OnApplied(model.Applied{At: h.instant(t), Rate: c.Frequency + c.Slew, Correction: c}, &out)
}

// run simulates one seed.
func (r *row) run(seed uint64) figures {
	h := newHost(r, seed)
	var f figures
	var xx, yy, bounds float64
	n, in, whole, sent := 0, 0, 0, 0
	x := make([]float64, 0, r.duration)
	for k := range r.duration {
		for at, some := h.events.Next(); some && at < float64(k); at, some = h.events.Next() {
			_, do := h.events.Pop()
			h.now = at
			do(at)
		}
		t := float64(k)
		e := h.errorAt(t)
		x = append(x, math.Abs(e))
		if r.probe != nil {
			r.probe(h, t)
		}
		if k == r.settle {
			sent = h.sent
		}
		if k < r.settle {
			continue
		}
		n++
		y := (1+h.osc.freq[k])*(1+h.rate) - 1
		xx += e * e
		yy += y * y
		f.max = math.Max(f.max, math.Abs(e))
		if h.snap != nil {
			b := h.snap.ErrorBound.Seconds() + float64(h.snap.DispersionRate)*(t-h.snapAt)
			bounds += b
			f.base = h.snap.RootDelay.Seconds() / 2
			if math.Abs(e) <= b {
				whole++
			}
			if math.Abs(e) <= b-f.base { // path asymmetry aside, the rest must do
				in++
			}
		}
	}
	f.rms, f.freq = math.Sqrt(xx/float64(n)), math.Sqrt(yy/float64(n))
	f.packets = float64(h.sent-sent) / float64(n) * 3600
	f.toMilli, f.toHundred = converged(x, 1e-3), converged(x, 1e-4)
	f.covered, f.whole, f.bound = float64(in)/float64(n), float64(whole)/float64(n), bounds/float64(n)
	f.steps = int(h.sys.discipline.Record().Steps)
	f.errors = x
	return f
}

// converged returns the first second from which |x| stays below limit for 1800 s.
func converged(x []float64, limit float64) float64 {
	run := 0
	for k := range x {
		if x[k] >= limit {
			run = 0
			continue
		}
		if run++; run > 1800 {
			return float64(k - 1800)
		}
	}
	return math.Inf(1)
}

// medians runs some seeds and takes the median of each figure.
func (r *row) medians(from, seeds int) figures {
	all := make([]figures, seeds)
	for i := range all {
		all[i] = r.run(uint64(from + i))
	}
	return medianOf(all)
}

// medianOf takes the median of each figure; of the coverage the worst.
func medianOf(all []figures) figures {
	seeds := len(all)
	pick := func(get func(f *figures) float64) float64 {
		v := make([]float64, seeds)
		for i := range all {
			v[i] = get(&all[i])
		}
		slices.Sort(v)
		return (v[seeds/2] + v[(seeds-1)/2]) / 2
	}
	worst := func(get func(f *figures) float64) float64 {
		v := get(&all[0])
		for i := range all {
			v = math.Min(v, get(&all[i]))
		}
		return v
	}
	return figures{
		rms: pick(func(f *figures) float64 { return f.rms }), max: pick(func(f *figures) float64 { return f.max }),
		freq: pick(func(f *figures) float64 { return f.freq }), packets: pick(func(f *figures) float64 { return f.packets }),
		toMilli: pick(func(f *figures) float64 { return f.toMilli }), toHundred: pick(func(f *figures) float64 { return f.toHundred }),
		covered: worst(func(f *figures) float64 { return f.covered }), whole: pick(func(f *figures) float64 { return f.whole }), bound: pick(func(f *figures) float64 { return f.bound }),
		base: pick(func(f *figures) float64 { return f.base }), steps: all[0].steps,
	}
}
