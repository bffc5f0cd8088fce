package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/leapfile"
	"timeball/internal/mac"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/system"
)

// usePolicy puts the keys and the server's rules of a configuration in force.
func (d *Daemon) usePolicy(cfg *config.Config) error {
	keys, err := keyRing(cfg)
	if err != nil {
		return err
	}
	d.keys.Store(keys)
	d.policy.Store(d.newPolicy(cfg, keys))
	return nil
}

// mayStaySilent reports whether requests may go unanswered for want of a time to tell:
// for a while after the start, and only where somebody may come to tell us the time.
func (d *Daemon) mayStaySilent(cfg *config.Config) bool {
	return cfg.Server != nil && !cfg.Alone() && time.Since(d.started) < cfg.Server.SilentStart
}

// endSilence answers from now on, synchronized or not, once the silence has lasted long
// enough.
func (d *Daemon) endSilence(cfg *config.Config) {
	if old := d.policy.Load(); old.SilentUntilSynchronized && !d.mayStaySilent(cfg) {
		speaking := *old
		speaking.SilentUntilSynchronized = false
		d.policy.Store(&speaking)
	}
}

// keyRing makes the keys of a configuration.
func keyRing(cfg *config.Config) (*mac.KeyRing, error) {
	var keys []*mac.Key
	for _, k := range cfg.Keys {
		key, err := newKey(k)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return mac.NewKeyRing(keys...)
}

func newKey(k config.Key) (*mac.Key, error) {
	kind, err := mac.ParseType(string(k.Type))
	if err != nil {
		return nil, fmt.Errorf("key %d: %w", k.ID, err)
	}
	return mac.NewKey(k.ID, kind, k.Secret)
}

// configuredKey is the key with an id, nil for 0 or for one that cannot be made.
func configuredKey(cfg *config.Config, id uint32) *mac.Key {
	for _, k := range cfg.Keys {
		if id != 0 && k.ID == id {
			key, _ := newKey(k)
			return key
		}
	}
	return nil
}

// newPolicy says how requests are answered. Without a server section mode 3 gets
// silence: the port is open for associations alone.
func (d *Daemon) newPolicy(cfg *config.Config, keys *mac.KeyRing) *responder.Policy {
	p := &responder.Policy{Keys: keys, LoopbackInterface: loopbackIndex()}
	s := cfg.Server
	if s == nil {
		return p
	}
	p.Access = responder.NewAccess(responder.AccessLists{
		Peer: s.Access.Peer, Server: s.Access.Server,
		Synchronization: s.Access.Synchronization, Query: s.Access.Query,
	})
	if limit := s.RateLimit; limit != nil {
		p.Limit = &responder.RateLimit{Interval: limit.Interval, Burst: limit.Burst, Leak: limit.Leak, Kiss: true}
	}
	switch s.Require {
	case config.RequireKey:
		p.Require = responder.RequireKey
	case config.RequireNTS:
		p.Require = responder.RequireNTS
	}
	p.AnswerActive, p.CryptoNAK = true, true
	p.Interleaved = s.Interleaved
	p.SilentUntilSynchronized = d.mayStaySilent(cfg)
	return p
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
func (d *Daemon) boundAddress() netip.Addr {
	if own := d.opts.Port.Addr(); own.IsValid() && !own.IsUnspecified() {
		return own
	}
	return netip.Addr{}
}

// setAddresses looks up our own addresses.
func (d *Daemon) setAddresses() {
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

// readLeapFile reads the list of leap seconds that a configuration names; nil, and a
// sentence for the log, if it is of no use.
func readLeapFile(cfg *config.Config) (*leapfile.List, string) {
	path := cfg.Clock.Leap.File
	if path == "" || cfg.Clock.Leap.Mode == config.LeapIgnore {
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

// longestLeapFile bounds the list in octets; that of 2026 has under 5000.
const longestLeapFile = 1 << 20

// readAtMost reads a plain file of no more than limit octets.
func readAtMost(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no plain file", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has %d octets, more than %d", path, info.Size(), limit)
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

// leapConfig is what the system process needs to know of leap seconds.
func leapConfig(cfg *config.Config, log *zap.Logger) system.LeapConfig {
	list, warning := readLeapFile(cfg)
	if warning != "" {
		log.Warn(warning)
	}
	c := system.LeapConfig{Mode: leapModes[cfg.Clock.Leap.Mode]}
	if list != nil {
		c.Expires = list.Expires
		for _, entry := range list.Entries {
			c.Table = append(c.Table, system.LeapEntry{At: entry.At, TAI: entry.TAI})
		}
	}
	return c
}

var leapModes = map[config.LeapMode]system.LeapMode{
	config.LeapKernel: system.LeapKernel,
	config.LeapStep:   system.LeapStep,
	config.LeapSlew:   system.LeapSlew,
	config.LeapIgnore: system.LeapIgnore,
}
