// Package xdp answers plain NTP requests in the driver of a network interface, by a BPF
// program (fastpath.c) that is attached there (XDP). What it does not answer goes up to the
// sockets unchanged. It holds no policy of its own: the daemon has its responder make a
// reply, and gives the program what stands in it (State).
package xdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Mode says where on its way a packet is looked at.
type Mode string

// The modes.
const (
	Auto    Mode = "auto"    // in the driver, and where it cannot, behind it
	Native  Mode = "native"  // in the driver
	Generic Mode = "generic" // by the kernel, behind the driver: slower, for every driver
)

// State is what the program needs to know to answer, as of a moment.
type State struct {
	// At is the monotonic clock at that moment, and Time ours; the program answers for so
	// long as Valid from then on.
	At    time.Duration
	Time  ntptime.Timestamp
	Valid time.Duration
	// Rate is by how much our clock is faster than the monotonic one.
	Rate ntptime.Frequency
	// Reply is a reply of the responder to a plain request of that moment.
	Reply wire.Header
	// Growth is that of the root dispersion.
	Growth ntptime.Frequency
	// Interleaved leaves requests that may be of interleaved mode to the sockets.
	Interleaved bool
	Limit       *Limit // nil: none
	// Sample: one in so many requests goes up, so that the daemon sees who asks; a power of
	// two, 0: none.
	Sample int
	// Restricted answers the networks of SetAccess alone.
	Restricted bool
	// Fields gives requests with extension fields or a MAC to the workers; NotPlain leaves
	// all others to the sockets.
	Fields, NotPlain bool
}

// Limit is responder.RateLimit.
type Limit struct {
	Interval time.Duration
	Burst    int
	Leak     int
	Kiss     bool
}

// Attachment is an interface at which the program is attached.
type Attachment struct {
	Interface string
	Mode      Mode // Native or Generic
}

// Counters says what became of the NTP packets for our addresses.
type Counters struct {
	Answered   uint64
	RateKoD    uint64 // refused by a RATE kiss
	Limited    uint64 // dropped: over the rate limit
	Forwarded  uint64 // left to the sockets
	Redirected uint64 // given to the workers
}

// Program is the program with the interfaces it is attached at. Its methods may be called
// by one goroutine at a time, Counters by any.
type Program struct {
	objects  fastpathObjects
	links    []link.Link
	attached []Attachment
	workers  []*Worker
	next     uint32 // the state that is not in use
	listed   map[fastpathAddress]bool
	allowed  map[netip.Prefix]bool
}

// The kernel's flags, and what it sees of the program's results.
const (
	flagInterleaved = 1
	flagLimit       = 2
	flagAccess      = 4
	flagKiss        = 8
	flagFields      = 16
	flagNotPlain    = 32

	resultAnswered  = 0
	resultRateKoD   = 1
	resultLimited   = 2
	resultForwarded = 3
	resultRedirect  = 4
)

// Load puts the program into the kernel, with what workers need or without: that asks more of
// a kernel. It answers nothing before Update.
func Load(workers bool) (*Program, error) {
	p := &Program{listed: map[fastpathAddress]bool{}, allowed: map[netip.Prefix]bool{}}
	spec, err := loadFastpath()
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	if workers {
		err = spec.Variables["with_workers"].Set(uint8(1))
	} else {
		spec.Maps["workers"].Type = ebpf.Array // there may be no AF_XDP (CONFIG_XDP_SOCKETS)
	}
	if err == nil {
		err = spec.LoadAndAssign(&p.objects, nil)
	}
	if err != nil {
		return nil, explain(err)
	}
	return p, nil
}

// explain says what the kernel, or the service, lacks.
func explain(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier):
		return fmt.Errorf("this kernel does not accept the program; one from 5.15 on does: %w", err)
	case errors.Is(err, os.ErrPermission):
		return errors.New("no permission to load a BPF program: give the service CAP_BPF and CAP_NET_ADMIN (the drop-in fast-path.conf does)")
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("this kernel cannot run the program: %w", err)
	}
	return fmt.Errorf("load the program: %w", err)
}

// Attach puts the program at an interface. The link goes with the process, however that ends.
func (p *Program) Attach(name string, mode Mode) (Attachment, error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return Attachment{}, fmt.Errorf("interface %s: %w", name, err)
	}
	tries := map[Mode][]Mode{Auto: {Native, Generic}, Native: {Native}, Generic: {Generic}}[mode]
	var failed error
	for _, try := range tries {
		flags := link.XDPDriverMode
		if try == Generic {
			flags = link.XDPGenericMode
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: p.objects.Fastpath, Interface: nic.Index, Flags: flags})
		if err == nil {
			a := Attachment{name, try}
			p.links, p.attached = append(p.links, l), append(p.attached, a)
			return a, nil
		}
		failed = errors.Join(failed, whyNot(name, try, err))
	}
	return Attachment{}, failed
}

func whyNot(name string, mode Mode, err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("the driver of %s has no XDP (mode %s)", name, mode)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("another XDP program is attached at %s", name)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no permission to attach at %s: CAP_NET_ADMIN is missing", name)
	}
	return fmt.Errorf("attach at %s (mode %s): %w", name, mode, err)
}

// Attached lists where the program is attached.
func (p *Program) Attached() []Attachment { return p.attached }

// Update replaces the state, at once for every packet that comes from now on.
func (p *Program) Update(s *State) error {
	index := p.next
	if err := p.objects.States.Put(index, s.encode()); err != nil {
		return fmt.Errorf("write the state of the fast path: %w", err)
	}
	if err := p.objects.Current.Put(uint32(0), index); err != nil {
		return fmt.Errorf("switch the state of the fast path: %w", err)
	}
	p.next = 1 - index
	return nil
}

// Silence leaves everything to the sockets until the next Update.
func (p *Program) Silence() error { return p.Update(&State{}) }

// secondsPerNanosecond as the program counts: 2^60 and 2^64 in units of 2^-60 s and 2^-64 s.
const (
	nanosecond60 = float64(1<<60) * 1e-9
	nanosecond64 = float64(1<<32) * float64(1<<32) * 1e-9
)

func (s *State) encode() *fastpathState {
	h := &s.Reply
	e := &fastpathState{
		ValidUntil: uint64(s.At + s.Valid), At: uint64(s.At), Base: uint64(s.Time),
		Rate: uint64(nanosecond60*(1+float64(s.Rate)) + 0.5), Growth: uint64(nanosecond64 * max(float64(s.Growth), 0)),
		Reference: uint64(h.ReferenceTime), RootDelay: uint32(h.RootDelay), Dispersion: uint32(h.RootDispersion),
		ReferenceId: uint32(h.ReferenceID), Leap: uint8(h.Leap), Stratum: h.Stratum, Precision: int8(h.Precision),
	}
	if s.Sample > 1 {
		e.Sample = uint32(s.Sample - 1)
	}
	if s.Interleaved {
		e.Flags |= flagInterleaved
	}
	if s.Fields {
		e.Flags |= flagFields
	}
	if s.NotPlain {
		e.Flags |= flagNotPlain
	}
	if s.Restricted {
		e.Flags |= flagAccess
	}
	if l := s.Limit; l != nil && l.Interval > 0 {
		e.Flags |= flagLimit
		if l.Kiss {
			e.Flags |= flagKiss
		}
		e.Interval, e.Burst = uint64(l.Interval), uint64(l.Interval)*uint64(max(l.Burst-1, 0))
		e.Leak, e.KissPoll = uint32(1)<<min(l.Leak, 31)-1, int8(ntptime.Log2Of(l.Interval))
	}
	return e
}

// SetAddresses says for which addresses and ports the program answers.
func (p *Program) SetAddresses(list []netip.AddrPort) error {
	want := map[fastpathAddress]bool{}
	for _, a := range list {
		port := a.Port()
		want[fastpathAddress{Octets: a.Addr().WithZone("").As16(), Port: port>>8 | port<<8}] = true
	}
	return change(p.objects.Addresses, p.listed, want, func(a fastpathAddress) any { return a })
}

// SetAccess says which networks State.Restricted lets in.
func (p *Program) SetAccess(list []netip.Prefix) error {
	want := map[netip.Prefix]bool{}
	for _, n := range list {
		want[n.Masked()] = true
	}
	return change(p.objects.Access, p.allowed, want, func(n netip.Prefix) any {
		bits := n.Bits()
		if n.Addr().Is4() {
			bits += 96
		}
		return fastpathPrefix{Bits: uint32(bits), Octets: n.Addr().As16()}
	})
}

// change makes a set in the kernel, of which we know what it holds, what it shall be.
func change[K comparable](m *ebpf.Map, has, want map[K]bool, key func(K) any) error {
	for k := range has {
		if !want[k] {
			if err := m.Delete(key(k)); err != nil {
				return fmt.Errorf("fast path: %w", err)
			}
			delete(has, k)
		}
	}
	for k := range want {
		if !has[k] {
			if err := m.Put(key(k), uint8(1)); err != nil {
				return fmt.Errorf("fast path: %w", err)
			}
			has[k] = true
		}
	}
	return nil
}

// Counters sums what the program has done on all processors.
func (p *Program) Counters() (Counters, error) {
	var sums [resultRedirect + 1]uint64
	for i := range sums {
		var each []uint64
		if err := p.objects.Counters.Lookup(uint32(i), &each); err != nil {
			return Counters{}, fmt.Errorf("counters of the fast path: %w", err)
		}
		for _, n := range each {
			sums[i] += n
		}
	}
	return Counters{sums[resultAnswered], sums[resultRateKoD], sums[resultLimited], sums[resultForwarded], sums[resultRedirect]}, nil
}

// Close ends the workers, detaches the program and takes it out of the kernel.
func (p *Program) Close() error {
	var errs []error
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	for _, w := range p.workers {
		errs = append(errs, w.Close())
	}
	p.links, p.attached, p.workers = nil, nil, nil
	return errors.Join(append(errs, p.objects.Close())...)
}

// Monotonic reads the clock that the program reads.
func Monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // there is one on every Linux
	return time.Duration(ts.Nano())
}
