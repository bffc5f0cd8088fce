package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// check makes the checks that span several keys.
func (d *draft) check() {
	for i := range d.config.Sources {
		d.checkSource(sourcePath(i), &d.config.Sources[i])
	}
	d.checkDoubledSources()
	d.checkSmear()
	if s := d.config.Server; s != nil && s.FastPath != nil && len(s.FastPath.Interfaces) == 0 && !d.faulty("server.fast_path.interfaces") {
		d.report("server.fast_path", "has no interfaces; write {interfaces: [eth0]}")
	}
	if d.config.ClockBound != nil && d.config.Clock.Driver == ClockVirtual {
		d.report("clockbound", "tells programs of the system's clock, which clock.driver: virtual has nothing to do with; use kernel or observe")
	}
	d.checkServer()
	d.checkSymmetric()
	d.checkListeners()
	if m := d.config.Metrics; m != nil {
		d.checkZone("metrics.listen", m.Listen.Addr, "")
	}
}

// checkSource checks one source in itself.
func (d *draft) checkSource(path string, s *Source) {
	if s.Kind == "" {
		if node := d.places[path]; node != nil && node.Kind == yaml.MappingNode && !d.anyGiven(path, sourceKinds) {
			d.report(path, "has no kind; begin it with one of pool, server, peer, broadcast_client, multicast_client, refclock")
		}
		return
	}
	for _, f := range sourceKeys {
		if !fits(f.key, s.Kind) && d.given(path+"."+f.key) {
			d.report(path+"."+f.key, "%s", misfit(f.key, s.Kind))
		}
	}
	if !d.faulty(path+".min_poll") && !d.faulty(path+".max_poll") && s.MinPoll > s.MaxPoll {
		d.report(path+".min_poll", "%d is above max_poll %d; lower it or raise max_poll", s.MinPoll, s.MaxPoll)
	}
	if s.Fallback && (s.Prefer || s.Require || s.NoSelect) {
		d.report(path+".fallback", "a fallback is used only while no other source is; leave prefer, require and no_select out, or fallback")
	}
	if s.NoSelect && (s.Prefer || s.Trust || s.Require) {
		d.report(path+".no_select", "contradicts prefer, trust and require; keep one side")
	}
	if slices.Contains(unaskedKinds, s.Kind) {
		d.checkProof(path, s.Key, s.Unauthenticated)
	}
	d.checkKey(path+".key", s.Key)
	if addr, err := netip.ParseAddr(s.Host); err == nil && !d.faulty(path+"."+string(s.Kind)) {
		d.checkZone(path+"."+string(s.Kind), addr, s.Interface)
	}
	d.checkZone(path+".source_address", s.SourceAddress, s.Interface)
	d.checkNTSClient(path, s)
	d.checkRefclock(path, s.Refclock)
	if s.Kind == MulticastClient {
		d.checkGroup(path+".multicast_client.group", s.Group, s.Interface)
	}
}

// misfit says why a key has no meaning for a kind of source.
func misfit(key string, kind SourceKind) string {
	if key == "interface" && (kind == BroadcastClient || kind == MulticastClient) {
		return fmt.Sprintf("belongs inside %s; write %s: {interface: ...}", kind, kind)
	}
	names := make([]string, len(kindsOfKey[key]))
	for i, one := range kindsOfKey[key] {
		names[i] = string(one)
	}
	return fmt.Sprintf("is for %s sources, and this is a %s; leave it out", strings.Join(names, ", "), kind)
}

// checkProof demands a key for what arrives unasked, unless the file says in words
// that it needs none.
func (d *draft) checkProof(path string, key uint32, unauthenticated bool) {
	switch {
	case unauthenticated && key != 0:
		d.report(path+".unauthenticated", "says that no key is needed, and key says that one is; keep one of them")
	case !unauthenticated && key == 0 && !d.given(path+".key"):
		d.report(path, "has no key, so anybody could set the clock; give key: ID, or say unauthenticated: true")
	}
}

// checkKey looks a key id up. Where the key file was not read, nothing is known.
func (d *draft) checkKey(path string, id uint32) {
	if id == 0 || d.keyIDs == nil {
		return
	}
	if _, there := d.keyIDs[id]; there {
		return
	}
	if d.given("keys") {
		d.report(path, "no entry of keys has the id %d; add it there, or name another", id)
	} else {
		d.report(path, "there is no key %d; give keys: FILE or keys: [{id: %d, type: aes128-cmac, hex: ...}]", id, id)
	}
}

// checkNTSClient checks what NTS cannot go with.
func (d *draft) checkNTSClient(path string, s *Source) {
	if s.NTS == nil || !fits("nts", s.Kind) {
		return
	}
	if s.Key != 0 {
		d.report(path+".key", "cannot go with nts; keep one of them")
	}
	if s.Version != 4 && !d.faulty(path+".version") {
		d.report(path+".version", "%d cannot go with nts, which is for version 4 (RFC 8915); leave it out", s.Version)
	}
}

// checkRefclock checks what its driver needs.
func (d *draft) checkRefclock(path string, r *Refclock) {
	if r == nil {
		return
	}
	path += ".refclock"
	node := d.places[path]
	switch {
	case node == nil || node.Kind != yaml.MappingNode && !isNull(node):
		return
	case !d.given(path + ".driver"):
		d.report(path, "has no driver; write {driver: shm}, or sock, pps, phc, nmea")
		return
	case d.faulty(path + ".driver"):
		return
	case r.Driver == RefclockSOCK && r.Device == "":
		d.report(path, "has no device; the sock driver needs the name of its socket, like device: /run/gps.sock")
	case r.Driver == RefclockNMEA && r.Device == "":
		d.report(path, "has no device; the nmea driver needs the serial line, like device: /dev/ttyS0")
	case r.Driver == RefclockSHM && r.Device != "":
		d.report(path+".device", "has no meaning for the shm driver; name the segment with unit")
	}
	for _, key := range refclockKeys {
		drivers := refclockDrivers[key.key]
		if len(drivers) > 0 && d.given(path+"."+key.key) && !slices.Contains(drivers, r.Driver) && (key.key != "device" || r.Driver != RefclockSHM) {
			d.report(path+"."+key.key, "is for the driver %s, and this one is %s; leave it out", joinList(drivers), r.Driver)
		}
	}
	if r.Device != "" && d.given(path+".unit") && slices.Contains(refclockDrivers["unit"], r.Driver) {
		d.report(path+".unit", "names the device a second time; keep unit or device")
	}
	if r.Driver == RefclockSOCK && len(r.Device) > maxSocketName {
		d.report(path+".device", "%v", errSocketName)
	}
	if r.Driver == RefclockNMEA && !slices.Contains(bauds, r.Baud) {
		d.report(path+".baud", "%d is no speed of a serial line; write one of 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800", r.Baud)
	}
	d.checkLock(path, r)
}

// bauds are the speeds of serial lines; 0: as the line is set.
var bauds = []int{0, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800}

// checkLock finds the reference clock that numbers another one's pulses.
func (d *draft) checkLock(path string, r *Refclock) {
	if r.Lock == "" || d.faulty(path+".lock") {
		return
	}
	named := 0
	for i := range d.config.Sources {
		other := d.config.Sources[i].Refclock
		switch {
		case other == nil || other.RefID != r.Lock:
		case other == r:
			d.report(path+".lock", "is its own reference id; name the clock that knows the seconds, and give this one another refid")
			return
		case other.Driver == RefclockPPS:
			d.report(path+".lock", "%s has pulses only and does not know the seconds either; name a clock that does", r.Lock)
			return
		default:
			named++
		}
	}
	switch {
	case named == 0:
		d.report(path+".lock", "there is no reference clock with refid %s; give the one that is meant this refid", r.Lock)
	case named > 1:
		d.report(path+".lock", "%d reference clocks have refid %s; give each its own", named, r.Lock)
	}
}

// joinList writes a few words as a list.
func joinList[S ~string](words []S) string {
	names := make([]string, len(words))
	for i, word := range words {
		names[i] = string(word)
	}
	return strings.Join(names, ", ")
}

// checkGroup demands an interface where a group has no meaning without one.
func (d *draft) checkGroup(path string, group netip.Addr, name string) {
	if group.IsValid() && name == "" && (group.IsLinkLocalMulticast() && group.Is6() || group.IsInterfaceLocalMulticast()) {
		d.report(path, "%s is a group of one link only; say which with interface", group)
	}
}

// checkDoubledSources finds sources that would have two votes.
func (d *draft) checkDoubledSources() {
	first := map[string]int{}
	for i := range d.config.Sources {
		s := &d.config.Sources[i]
		if s.Kind == "" || s.Host == "" && slices.Contains(unicastKinds, s.Kind) {
			continue
		}
		name := joinWords(s.Name(), s.Interface, s.SourceAddress.String())
		if before, doubled := first[name]; doubled {
			if d.origins[d.places[sourcePath(i)]] != "" { // what is found out elsewhere may be known already
				d.doubled = append(d.doubled, i)
				continue
			}
			d.report(sourcePath(i), "is the same as %s; leave it out, it would vote twice", sourcePath(before))
			continue
		}
		first[name] = i
	}
}

// checkServer checks the server in itself.
func (d *draft) checkServer() {
	s := d.config.Server
	if s == nil {
		return
	}
	d.checkRequirement("server.require", s.Require)
	d.checkAccess(s)
	if s.NTS != nil && (d.places["server.nts"].Kind == yaml.MappingNode || isNull(d.places["server.nts"])) {
		for _, need := range []string{"certificate", "key"} {
			if !d.given("server.nts." + need) {
				d.report("server.nts", "has no %s; give its file", need)
			}
		}
	}
	for i := range s.Broadcast {
		b, path := &s.Broadcast[i], fmt.Sprintf("server.broadcast[%d]", i)
		d.checkSender(path, b.Key, b.Unauthenticated)
		if b.Address == netip.AddrFrom4([4]byte{255, 255, 255, 255}) && b.Interface == "" && !d.faulty(path+".interface") {
			d.report(path, "sends to 255.255.255.255 and has no interface; say which one")
		}
	}
	for i := range s.Multicast {
		m, path := &s.Multicast[i], fmt.Sprintf("server.multicast[%d]", i)
		d.checkSender(path, m.Key, m.Unauthenticated)
		d.checkGroup(path+".group", m.Group, m.Interface)
	}
	d.checkListen("server.listen", s.Listen)
}

// checkSender checks the key of a sender of mode 5.
func (d *draft) checkSender(path string, key uint32, unauthenticated bool) {
	d.checkKey(path+".key", key)
	if unauthenticated && key != 0 {
		d.report(path+".unauthenticated", "says that no key is used, and key says that one is; keep one of them")
	}
}

// checkSmear: smeared time is served by the leap mode smear alone.
func (d *draft) checkSmear() {
	c := d.config
	if c.Clock.Leap.Mode == LeapSmear {
		return
	}
	if d.given("clock.leap.smear") {
		d.report("clock.leap.smear", "has no meaning without clock.leap.mode: smear; write the mode, or leave it out")
	}
	for i := range c.server().Listen {
		if path := fmt.Sprintf("server.listen[%d].smear", i); c.Server.Listen[i].Smear && d.given(path) {
			d.report(path, "serves smeared time, and clock.leap.mode is %s; write clock: {leap: {mode: smear}}", c.Clock.Leap.Mode)
		}
	}
}

// checkListen finds addresses that cannot all be listened at: one that stands there twice or
// is among those of another, and one that means nothing without its interface.
func (d *draft) checkListen(path string, list []ListenAddress) {
	for i, address := range list {
		one := fmt.Sprintf("%s[%d]", path, i)
		d.checkZone(one, address.Addr, "")
		for j, other := range list[:i] {
			if address.Port == 0 || !address.overlaps(other) {
				continue
			}
			first := d.nearest(fmt.Sprintf("%s[%d]", path, j))
			switch {
			case address.Addr == other.Addr:
				d.report(one, "%s stands in line %d already; keep one", address, first.Line)
			case other.everywhere():
				d.report(one, "%s is among the addresses of %s in line %d; keep one of them", address, other, first.Line)
			default:
				d.report(one, "%s has the address of %s in line %d among its own; keep one of them", address, other, first.Line)
			}
			break
		}
	}
}

// everywhere reports whether the address stands for every address of a family, or of both.
func (l ListenAddress) everywhere() bool { return !l.Addr.IsValid() || l.Addr.IsUnspecified() }

// overlaps reports whether two sockets could not be bound to both.
func (l ListenAddress) overlaps(other ListenAddress) bool {
	switch {
	case l.Port != other.Port:
		return false
	case l.Addr.IsValid() && other.Addr.IsValid() && l.Addr.Is4() != other.Addr.Is4():
		return false
	}
	return l.Addr == other.Addr || l.everywhere() || other.everywhere()
}

// checkZone demands the interface of an address that stands for another machine on every link.
func (d *draft) checkZone(path string, addr netip.Addr, ifname string) {
	if addr.Is6() && addr.IsLinkLocalUnicast() && addr.Zone() == "" && ifname == "" {
		d.report(path, "%s is an address of one link only; say which, like %s%%eth0", addr, addr)
	}
}

// checkSymmetric checks who may mobilize an association.
func (d *draft) checkSymmetric() {
	s := &d.config.Symmetric
	for i, id := range s.Keys {
		d.checkKey(fmt.Sprintf("symmetric.keys[%d]", i), id)
	}
	if s.Unauthenticated && len(s.Keys) > 0 {
		d.report("symmetric.unauthenticated", "says that no key is needed, and keys says which ones are; keep one of them")
	}
	if !s.Passive {
		return
	}
	if !s.Unauthenticated && !d.given("symmetric.keys") {
		d.report("symmetric.passive", "anybody could set the clock; say whose keys may with keys: [ID], or unauthenticated: true")
	}
	if d.config.Server == nil && !d.given("server") {
		d.report("symmetric.passive", "needs the port of a server, and there is no server section; add server: {}")
	}
}

// checkListeners finds sources that listen where server.interfaces.ignore shuts.
func (d *draft) checkListeners() {
	if d.config.Server == nil {
		return
	}
	for i := range d.config.Sources {
		s := &d.config.Sources[i]
		listens := s.Kind == BroadcastClient || s.Kind == MulticastClient
		if listens && s.Interface != "" && slices.Contains(d.config.Server.Ignore, s.Interface) {
			d.report(sourcePath(i)+"."+string(s.Kind)+".interface", "%s is shut by server.interfaces.ignore; open it there, or listen elsewhere", s.Interface)
		}
	}
}

// anyGiven says whether the file has any of these keys.
func (d *draft) anyGiven(path string, kinds []SourceKind) bool {
	return slices.ContainsFunc(kinds, func(k SourceKind) bool { return d.given(path + "." + string(k)) })
}

// faulty says whether a problem with exactly this key is known.
func (d *decoder) faulty(path string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Path == path })
}
