package netio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"timeball/internal/ntptime"
)

const (
	// A NIC's clock is compared with ours this often; between, its rate carries on.
	compareEvery = time.Second
	// A comparison older than this is not used: the NIC's timestamps are left alone.
	compareLasts = 5 * time.Second
	// maxNICRate bounds the rate of a NIC's clock against ours. A clock that seems to
	// be further off has been set by somebody.
	maxNICRate = 1e-3
	// rateWeight is the weight of a new rate in the running mean: comparisons err by some
	// 100 ns, rates over a second accordingly.
	rateWeight = 0.25
)

// NICSystem is what is asked of the operating system about NICs.
type NICSystem interface {
	// Enable makes the NIC of an interface timestamp what it sends and all that it receives.
	// It returns what undoes that, and the index of the NIC's clock.
	Enable(ifname string) (clock int, undo func() error, err error)
	// Open opens a NIC's clock by its index.
	Open(clock int) (HardwareClock, error)
}

// HardwareClock is the clock of a NIC.
type HardwareClock interface {
	// Compare reads the NIC's clock (ns, of its own) and CLOCK_REALTIME at the same
	// moment, within width.
	Compare() (nic int64, realtime ntptime.Wall, width time.Duration, err error)
	Close() error
}

// Hardware maps the timestamps of NICs, which count on clocks of their own, to
// instants. It is safe for concurrent use.
type Hardware struct {
	clock  Clock
	system NICSystem
	names  []string

	mu   sync.Mutex
	open map[string]*nic
	nics atomic.Pointer[map[int]clockLine] // by index of the interface
}

// nic is an interface whose NIC takes timestamps.
type nic struct {
	ifindex int
	clock   HardwareClock
	undo    func() error
	line    clockLine
}

// clockLine relates a NIC's clock to the oscillator that Instants count on: a moment
// on both, and the oscillator's gain for each ns of the NIC. The relation to the
// oscillator, other than one to the system's time, survives steps and slews.
type clockLine struct {
	nic  int64
	raw  ntptime.Raw
	rate float64 // of raw against NIC, less 1
}

// OpenHardware makes the NICs of the named interfaces timestamp; "*" stands for all that can.
// It fails if a named one cannot, saying why. The timestamps are of use once Run or Measure
// has compared the clocks.
func OpenHardware(names []string, clock Clock, system NICSystem) (*Hardware, error) {
	h := &Hardware{clock: clock.orSystem(), system: system, names: names, open: make(map[string]*nic)}
	if err := h.Refresh(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Absent lists the interfaces that were named and that this host does not have at present; their
// NICs are made to timestamp once they come.
func (h *Hardware) Absent() []string {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var absent []string
	for _, name := range h.names {
		if name != "*" && !slices.ContainsFunc(ifs, func(i net.Interface) bool { return i.Name == name }) {
			absent = append(absent, name)
		}
	}
	return absent
}

// Refresh looks at the interfaces again: those that came are made to timestamp, also those
// that came back under their old name.
func (h *Hardware) Refresh() error {
	ifs, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("interfaces of this host: %w", err)
	}
	return h.refresh(ifs)
}

func (h *Hardware) refresh(ifs []net.Interface) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Contains(h.names, "*")
	var errs []error
	for _, i := range ifs {
		named := slices.Contains(h.names, i.Name)
		if !named && (!all || i.Flags&net.FlagLoopback != 0) {
			continue
		}
		if c := h.open[i.Name]; c != nil && c.ifindex == i.Index {
			continue
		}
		h.drop(i.Name)
		if err := h.add(i); err != nil && named {
			errs = append(errs, err)
		}
	}
	for name := range h.open {
		if !slices.ContainsFunc(ifs, func(i net.Interface) bool { return i.Name == name }) {
			h.drop(name)
		}
	}
	h.publish()
	return errors.Join(errs...)
}

func (h *Hardware) add(i net.Interface) error {
	index, undo, err := h.system.Enable(i.Name)
	if err != nil {
		return fmt.Errorf("hardware timestamps on %s: %w", i.Name, err)
	}
	clock, err := h.system.Open(index)
	if err != nil {
		return errors.Join(fmt.Errorf("clock of the NIC of %s: %w", i.Name, err), undo())
	}
	h.open[i.Name] = &nic{ifindex: i.Index, clock: clock, undo: undo}
	return nil
}

// drop forgets an interface that is gone; there is nothing to undo on it.
func (h *Hardware) drop(name string) {
	if c := h.open[name]; c != nil {
		_ = c.clock.Close()
		delete(h.open, name)
	}
}

// Run compares the clocks once a second until ctx is done.
func (h *Hardware) Run(ctx context.Context) {
	ticker := time.NewTicker(compareEvery)
	defer ticker.Stop()
	for {
		h.Measure()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Measure compares the clocks of all NICs with ours.
func (h *Hardware) Measure() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.open {
		if timestamp, realtime, _, err := c.clock.Compare(); err == nil {
			c.line.follow(timestamp, h.clock.At(realtime).Raw)
		}
	}
	h.publish()
}

// publish makes the lines known to the goroutines that read timestamps.
func (h *Hardware) publish() {
	lines := make(map[int]clockLine, len(h.open))
	for _, c := range h.open {
		if c.line.raw != 0 {
			lines[c.ifindex] = c.line
		}
	}
	h.nics.Store(&lines)
}

// follow takes a comparison into the line.
func (l *clockLine) follow(nic int64, raw ntptime.Raw) {
	elapsed := nic - l.nic
	if l.raw == 0 || elapsed <= 0 {
		l.nic, l.raw = nic, raw // the first, or set back by somebody
		return
	}
	rate := float64(int64(raw-l.raw)-elapsed) / float64(elapsed)
	switch {
	case rate > maxNICRate || rate < -maxNICRate: // set by somebody; its rate is as before
	case l.rate == 0:
		l.rate = rate
	default:
		l.rate += rateWeight * (rate - l.rate)
	}
	l.nic, l.raw = nic, raw
}

// instant maps a timestamp of the NIC of an interface; false if there is no fresh
// comparison with that NIC, or the timestamp is not of the last seconds.
func (h *Hardware) instant(ifindex int, timestamp int64) (ntptime.Instant, bool) {
	nics := h.nics.Load()
	if nics == nil {
		return ntptime.Instant{}, false
	}
	l, ok := (*nics)[ifindex]
	since := time.Duration(timestamp - l.nic)
	if !ok || since > compareLasts || since < -compareLasts {
		return ntptime.Instant{}, false
	}
	raw := l.raw.Add(since + time.Duration(l.rate*float64(since)))
	now := h.clock.Now()
	age := now.Raw.Sub(raw)
	if age < -time.Millisecond || age > compareLasts {
		return ntptime.Instant{}, false
	}
	return ntptime.Instant{Wall: now.Wall.Add(-age), Raw: raw}, true
}

// Close gives the NICs back as they were.
func (h *Hardware) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for name, c := range h.open {
		errs = append(errs, c.clock.Close(), c.undo())
		delete(h.open, name)
	}
	h.publish()
	return errors.Join(errs...)
}
