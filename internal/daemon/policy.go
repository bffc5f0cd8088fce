package daemon

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/leapfile"
	"timeball/internal/mac"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
)

// usePolicy puts the keys and the server's rules of a configuration in force.
func (d *parts) usePolicy(cfg *config.Config) error {
	keys, err := engine.Keys(cfg)
	if err != nil {
		return err
	}
	d.keys.Store(keys)
	d.policy.Store(d.newPolicy(cfg, keys))
	return nil
}

// newPolicy says how requests are answered from now on.
func (d *parts) newPolicy(cfg *config.Config, keys *mac.KeyRing) *responder.Policy {
	return engine.Policy(cfg, keys, &engine.Host{Loopback: loopbackIndex()}, time.Since(d.started))
}

// endSilence answers from now on, synchronized or not, once the silence of the start has
// lasted long enough.
func (d *parts) endSilence(cfg *config.Config) {
	if p, ended := engine.EndSilence(cfg, d.policy.Load(), time.Since(d.started)); ended {
		d.policy.Store(p)
	}
}

// host is what the core needs to know of this machine.
func (d *parts) host() *engine.Host {
	h := &engine.Host{
		Precision:      d.clock.Precision(),
		Addresses:      *d.addresses.Load(),
		Broadcasts:     broadcastAddresses(),
		Listening:      d.listening(),
		Source:         d.boundAddress(),
		Floor:          d.state.floor,
		PanicGateOpen:  d.state.open(),
		Leaps:          d.leaps,
		InterfaceIndex: interfaceIndex,
		KeysOf:         d.kept.take,
	}
	h.Frequency, h.FrequencyError = d.state.drift()
	return h
}

// listening is where our own NTP port is open, with the numbers really taken.
func (d *parts) listening() []netip.AddrPort {
	if d.ports == nil {
		return nil // not yet
	}
	return d.ports.Addresses()
}

// loopbackIndex is the index of the loopback interface, 0 if there is none.
func loopbackIndex() int {
	interfaces, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			return i.Index
		}
	}
	return 0
}

// boundAddress is the one address that this daemon is bound to in a lab; invalid, and
// so the route's, everywhere else.
func (d *parts) boundAddress() netip.Addr {
	if own := d.opts.Port.Addr(); own.IsValid() && !own.IsUnspecified() {
		return own
	}
	return netip.Addr{}
}

// setAddresses looks up our own addresses.
func (d *parts) setAddresses() {
	own := ownAddresses(d.opts.Port)
	d.addresses.Store(&own)
}

// ownAddresses are the addresses that others know us by: a source that follows one
// of them would make a loop.
func ownAddresses(port netip.AddrPort) []netip.Addr {
	if port.IsValid() && !port.Addr().IsUnspecified() {
		return []netip.Addr{port.Addr()}
	}
	var own []netip.Addr
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range found {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && !prefix.Addr().IsLoopback() {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own
}

// broadcastAddresses are those of this machine's IPv4 networks (RFC 919 §7).
func broadcastAddresses() (list []netip.Addr) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range found {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().Is4() || prefix.Bits() > 30 || prefix.Addr().IsLoopback() {
			continue
		}
		last := prefix.Masked().Addr().As4()
		binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(last[:])|1<<(32-prefix.Bits())-1)
		list = append(list, netip.AddrFrom4(last))
	}
	return list
}

// readLeapFile reads the list of leap seconds that a configuration names; nil, and a
// sentence for the log, if it is of no use.
func readLeapFile(cfg *config.Config) (*leapfile.List, string) {
	path := engine.WantsLeapFile(cfg)
	if path == "" {
		return nil, ""
	}
	data, err := readAtMost(path, longestLeapFile)
	if os.IsNotExist(err) {
		return nil, fmt.Sprintf("leap second list %s does not exist; install tzdata, or leave clock.leap.file out (the sources announce leap seconds too)", path)
	}
	if err != nil {
		return nil, fmt.Sprintf("leap second list not used: %v", err)
	}
	list, err := leapfile.Parse(string(data))
	if err != nil {
		return nil, fmt.Sprintf("leap second list %s not used: %v", path, err)
	}
	if list.Expired(ntptime.WallOf(time.Now())) {
		return nil, fmt.Sprintf("leap second list %s expired on %s and is not used; update the package that ships it (tzdata)",
			path, list.Expires.Time().Format(time.DateOnly))
	}
	return list, ""
}

// longestLeapFile bounds the list in bytes; that of 2026 has under 5000.
const longestLeapFile = 1 << 20

// readAtMost reads a plain file of no more than limit bytes.
func readAtMost(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no plain file", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

// LeapWarnings are what `check` has to say of the list of leap seconds.
func LeapWarnings(cfg *config.Config) []string {
	if _, warning := readLeapFile(cfg); warning != "" {
		return []string{warning}
	}
	return nil
}

// leapList is the list of leap seconds for the system process; the log says why there is none.
func leapList(cfg *config.Config, log *zap.Logger) *leapfile.List {
	list, warning := readLeapFile(cfg)
	if warning != "" {
		log.Warn(warning)
	}
	return list
}
