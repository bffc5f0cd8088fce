package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/model"
	"timeball/internal/netio/xdp"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/serve"
	"timeball/internal/wire"
)

const (
	// The state of the fast path is renewed this often, and with each one published.
	fastPathEvery = 500 * time.Millisecond
	// A state that nobody renews is not served for longer: the sockets answer then.
	fastPathValid = 2 * time.Second
	// One request in so many goes up to the sockets, so that `clients` has its share.
	fastPathSample = 256
	// Round a leap second the clocks of the kernel and the mapping to ours part: the
	// sockets answer.
	fastPathLeap = 10 * time.Second
)

// fastPath answers plain requests in the driver, with what the responder itself says at
// the moment. It has a goroutine, which owns all but the counters.
type fastPath struct {
	program  *xdp.Program
	workers  []*xdp.Worker // that answer what has extension fields or a MAC; none without fast_path.fields
	failed   []string      // what could not be attached, for status
	changed  chan struct{}
	shard    *responder.Shard
	buffer   [256]byte
	addrs    []netip.AddrPort
	access   *responder.Access
	before   moment // the last reading of both clocks
	warned   bool
	closing  sync.Mutex
	counters atomic.Pointer[xdp.Counters]
}

// moment is one moment on both clocks.
type moment struct {
	monotonic time.Duration
	ours      ntptime.Instant
}

// openFastPath attaches the program where the configuration wants it. What cannot be done
// is said once, and the sockets serve: nil.
func openFastPath(cfg *config.Config, now func() ntptime.Instant, log *zap.Logger) *fastPath {
	if cfg.Server == nil || cfg.Server.FastPath == nil {
		return nil
	}
	f := &fastPath{changed: make(chan struct{}, 1), shard: responder.NewShard(responder.ShardConfig{})}
	f.counters.Store(&xdp.Counters{})
	fields := cfg.Server.FastPath.Fields
	program, err := xdp.Load(fields)
	if fields && err != nil {
		var plainErr error
		if program, plainErr = xdp.Load(false); plainErr == nil {
			log.Warn("no fast path for NTS and keys: " + err.Error() + "; the sockets serve")
			f.failed = append(f.failed, err.Error())
			fields, err = false, nil
		}
	}
	if err != nil {
		log.Warn("no fast path: "+err.Error()+"; the sockets serve", zap.Strings("interfaces", cfg.Server.FastPath.Interfaces))
		f.failed = append(f.failed, err.Error())
		return f
	}
	f.program = program
	for _, name := range cfg.Server.FastPath.Interfaces {
		at, err := program.Attach(name, xdp.Mode(cfg.Server.FastPath.Mode))
		if err != nil {
			log.Warn("no fast path: "+err.Error()+"; the sockets serve", zap.String("interface", name))
			f.failed = append(f.failed, err.Error())
			continue
		}
		log.Info("plain requests are answered in the driver", zap.String("interface", at.Interface), zap.String("mode", string(at.Mode)))
		if fields {
			f.openWorkers(at, now, log)
		}
	}
	return f
}

// openWorkers has workers answer what comes by an interface and is no plain request.
func (f *fastPath) openWorkers(at xdp.Attachment, now func() ntptime.Instant, log *zap.Logger) {
	workers, err := f.program.Workers(at, now)
	if err != nil {
		log.Warn("no fast path for NTS and keys: "+err.Error()+"; the sockets serve", zap.String("interface", at.Interface))
		f.failed = append(f.failed, err.Error())
		return
	}
	f.workers = append(f.workers, workers...)
	log.Info("requests with NTS or a key pass by the kernel's UDP", zap.String("interface", at.Interface), zap.Int("queues", len(workers)))
}

// start starts the goroutines of the workers; each ends with its context.
func (f *fastPath) start(g *group, ports *serve.Set, log *zap.Logger) {
	if f == nil {
		return
	}
	for i, w := range f.workers {
		g.Go(fmt.Sprintf("fast path %d", i), func(ctx context.Context) error {
			defer context.AfterFunc(ctx, func() { _ = w.Close() })()
			if err := w.Serve(ports.NewDirect()); err != nil {
				log.Warn("a queue has no fast path for NTS and keys any more; the sockets serve", zap.Error(err))
			}
			return nil
		})
	}
}

// runFastPath is the goroutine that keeps the state fresh; it ends with ctx.
func (d *Daemon) runFastPath(ctx context.Context) error {
	f := d.fastPath
	if f == nil || f.program == nil {
		return nil
	}
	ticker := time.NewTicker(fastPathEvery)
	defer ticker.Stop()
	for {
		d.renewFastPath()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-f.changed:
		}
	}
}

// publish has the state renewed at once.
func (f *fastPath) publish() {
	if f != nil && f.program != nil {
		replace(f.changed, struct{}{})
	}
}

// renewFastPath gives the program the present state, or has it leave all to the sockets.
func (d *Daemon) renewFastPath() {
	f := d.fastPath
	f.closing.Lock()
	defer f.closing.Unlock()
	if f.program == nil {
		return
	}
	err := f.serve(d)
	if counters, countErr := f.program.Counters(); countErr == nil {
		f.counters.Store(&counters)
	}
	if err != nil && !f.warned {
		f.warned = true
		d.log.Warn("fast path not kept up; the sockets serve", zap.Error(err))
	}
}

func (f *fastPath) serve(d *Daemon) error {
	policy, snapshot := d.policy.Load(), d.snapshot.Load()
	if !d.serves.Load() || !steady(snapshot, d.clock.Now()) {
		return f.program.Silence()
	}
	now := f.read(d)
	reply, ok := f.reply(policy, snapshot, now.ours)
	if !ok {
		return f.program.Silence()
	}
	if err := f.follow(d, policy); err != nil {
		return err
	}
	state := xdp.State{
		At: now.monotonic, Time: now.ours.Timestamp(), Valid: fastPathValid, Rate: f.rate(d, now), Reply: reply,
		Growth: snapshot.DispersionRate, Interleaved: policy.Interleaved, Sample: fastPathSample, Restricted: policy.Access != nil,
		Fields: len(f.workers) > 0, NotPlain: policy.Require != responder.RequireNone,
	}
	if l := policy.Limit; l != nil {
		state.Limit = &xdp.Limit{Interval: l.Interval, Burst: l.Burst, Leak: l.Leak, Kiss: l.Kiss}
	}
	f.before = now
	return f.program.Update(&state)
}

// steady reports whether the clock goes on evenly for as long as a state is valid, so that
// it may be read off the monotonic one.
func steady(s *model.Snapshot, now ntptime.Instant) bool {
	return s != nil && (s.LeapPending == 0 || s.LeapPending.Sub(now.Wall) > fastPathLeap) && s.Smear.Leap == 0
}

// read reads both clocks as one moment: of several tries the one that took the least time.
func (f *fastPath) read(d *Daemon) (m moment) {
	best := time.Duration(1 << 62)
	for range 5 {
		before := xdp.Monotonic()
		ours := d.clock.Now()
		if took := xdp.Monotonic() - before; took < best {
			best, m = took, moment{before + took/2, ours}
		}
	}
	return m
}

// rate is by how much our clock is faster than the kernel's monotonic one. The kernel's
// own clock is steered the same way as that; another is measured since the last reading.
func (f *fastPath) rate(d *Daemon, now moment) ntptime.Frequency {
	elapsed := now.monotonic - f.before.monotonic
	if d.driver == config.ClockKernel || f.before.monotonic == 0 || elapsed < fastPathEvery/10 {
		return 0
	}
	rate := float64(now.ours.Wall.Sub(f.before.ours.Wall)-elapsed) / float64(elapsed)
	if rate > 0.1 || rate < -0.1 { // stepped since
		return 0
	}
	return ntptime.Frequency(rate)
}

// reply is what the responder says to a plain request at this moment.
func (f *fastPath) reply(policy *responder.Policy, snapshot *model.Snapshot, now ntptime.Instant) (wire.Header, bool) {
	open := *policy
	open.Access, open.Limit, open.Require = nil, nil, responder.RequireNone
	request := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 1}
	env := responder.Env{Snapshot: snapshot, Policy: &open, Now: func() ntptime.Instant { return now }}
	rx := model.Received{Data: request.Append(nil), Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 1024), At: now}
	n, verdict := f.shard.Decide(f.buffer[:], &rx, &env)
	var p wire.Packet
	if verdict.Result != responder.Answered || p.Decode(f.buffer[:n]) != wire.DefectNone {
		return wire.Header{}, false
	}
	return p.Header, true
}

// follow tells the program at which addresses to answer, and whom.
func (f *fastPath) follow(d *Daemon, policy *responder.Policy) error {
	if addrs := d.servedAddresses(); !slices.Equal(addrs, f.addrs) {
		if err := f.program.SetAddresses(addrs); err != nil {
			return err
		}
		f.addrs = addrs
	}
	if policy.Access != f.access {
		if err := f.program.SetAccess(policy.Access.Open()); err != nil {
			return err
		}
		f.access = policy.Access
	}
	return nil
}

// servedAddresses are our own addresses with the ports listened at.
func (d *Daemon) servedAddresses() []netip.AddrPort {
	var list []netip.AddrPort
	for _, l := range d.ports.Listeners() {
		for _, own := range *d.addresses.Load() {
			if l.Holds(own) {
				list = append(list, netip.AddrPortFrom(own.WithZone(""), l.LocalAddr().Port()))
			}
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return slices.Compact(list)
}

// counts are what the fast path has done; ok is false where there is none.
func (f *fastPath) counts() (c xdp.Counters, ok bool) {
	if f == nil || f.program == nil {
		return c, false
	}
	return *f.counters.Load(), true
}

// report is how the fast path stands; nil: none is configured.
func (f *fastPath) report() *control.FastPath {
	if f == nil {
		return nil
	}
	r := &control.FastPath{Attached: []control.Attachment{}, Failed: f.failed}
	if f.program != nil {
		for _, a := range f.program.Attached() {
			r.Attached = append(r.Attached, control.Attachment{Interface: a.Interface, Mode: string(a.Mode)})
		}
	}
	c, _ := f.counts()
	r.Answered, r.RateKoD, r.Limited, r.Forwarded, r.Redirected = c.Answered, c.RateKoD, c.Limited, c.Forwarded, c.Redirected
	r.Workers = len(f.workers)
	w := f.workerCounts()
	r.Replied = w.Replied
	r.Lost = control.WorkersLost{Overflow: w.Overflow, Stale: w.Stale, Malformed: w.Malformed, Overlong: w.Overlong, SendErrors: w.SendErrors}
	return r
}

// workerCounts sums what the workers have done.
func (f *fastPath) workerCounts() (sum xdp.WorkerCounters) {
	if f == nil {
		return sum
	}
	for _, w := range f.workers {
		c := w.Counters()
		sum.Received += c.Received
		sum.Replied += c.Replied
		sum.Malformed += c.Malformed
		sum.Stale += c.Stale
		sum.Overlong += c.Overlong
		sum.SendErrors += c.SendErrors
		sum.Overflow += c.Overflow
	}
	return sum
}

func (f *fastPath) close() {
	if f == nil || f.program == nil {
		return
	}
	f.closing.Lock()
	defer f.closing.Unlock()
	_ = f.program.Close()
	f.program = nil
}
