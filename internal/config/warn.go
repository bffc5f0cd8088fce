package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
)

// warn finds the traps of a valid configuration, sorted by line.
func (d *draft) warn() Warnings {
	d.warnFile()
	d.warnNumber()
	d.warnOperator()
	d.warnReceiver()
	d.warnSameID()
	d.warnSameAddress()
	d.warnSmear()
	d.warnNTS()
	for i := range d.config.Sources {
		d.warnSource(sourcePath(i), &d.config.Sources[i])
	}
	d.warnServer()
	d.warnKeys()
	d.warnIdle()
	sortProblems(d.warnings)
	return d.warnings
}

func (d *draft) warning(path, format string, args ...any) {
	d.warnings = append(d.warnings, d.problemAt(d.nearest(path), path, fmt.Sprintf(format, args...)))
}

// warnFile warns of a file that others can write, or that says nothing.
func (d *draft) warnFile() {
	switch {
	case d.mode&0o002 != 0:
		d.warning("", "everybody may write this file (mode %04o); run chmod go-w %s", d.mode, d.file)
	case d.mode&0o020 != 0:
		d.warning("", "others of its group may write this file (mode %04o), and so set this machine's clock; run chmod g-w %s", d.mode, d.file)
	}
	if folder := d.folder; folder&fs.ModeSticky == 0 && folder.Perm()&0o022 != 0 {
		d.warning("", "others may put another file in the place of this one: its folder has mode %04o; run chmod go-w on it", folder.Perm())
	}
	if len(d.config.Keys) > 0 && d.config.KeyFile == "" && d.mode&0o044 != 0 {
		d.warning("keys", "others can read this file and the keys in it (mode %04o); run chmod 600 %s, or move the keys to a file of their own", d.mode, d.file)
	}
	if len(d.places) <= 1 {
		d.warning("", "the configuration is empty, so all defaults hold and there are no sources; see docs/configuration.md")
	}
}

// voters counts the sources that may set the clock.
func (d *draft) voters() (count int, trusted bool) {
	for i := range d.config.Sources {
		switch s := &d.config.Sources[i]; {
		case s.NoSelect:
		case s.Kind == Pool:
			count += s.Count
		default:
			count++
			trusted = trusted || s.Trust || s.Kind == RefclockSource
		}
	}
	return count, trusted
}

// warnNumber warns of too few sources to find the one that lies.
func (d *draft) warnNumber() {
	count, trusted := d.voters()
	if least := d.config.Selection.MinSources; least > count && count > 0 {
		d.warning("selection.min_sources", "wants %d sources, and there are %d, so the clock is never set; lower it or add sources", least, count)
	}
	switch {
	case trusted:
	case count == 0 && len(d.places) > 1 && d.config.Local == nil && !d.config.Symmetric.Passive:
		d.warning("sources", "no source may set the clock, so it runs free; add one, like - pool: pool.ntp.org")
	case count == 1:
		d.warning("sources", "one source only: nothing tells when it is wrong; use four or more (RFC 8633 3.2)")
	case count == 2:
		d.warning("sources", "two sources only: if they disagree there is no majority, and neither is used; use four or more (RFC 8633 3.2)")
	case count == 3:
		d.warning("sources", "three sources: one wrong and one silent leave no majority; use four or more (RFC 8633 3.2)")
	}
}

// warnOperator warns where one operator's fault is everybody's.
func (d *draft) warnOperator() {
	operator, names := "", 0
	for i := range d.config.Sources {
		s := &d.config.Sources[i]
		if s.NoSelect {
			continue
		}
		domain := operatorOf(s)
		if domain == "" || operator != "" && domain != operator {
			return
		}
		operator, names = domain, names+1
	}
	if names > 1 || names == 1 && d.config.Sources[0].Kind == Pool {
		d.warning("sources", "all sources are of %s: its mistakes are not outvoted; add sources of others", operator)
	}
}

// warnSameAddress warns of two lines with one address: one machine has one vote, also
// where its ports differ.
func (d *draft) warnSameAddress() {
	first := map[netip.Addr]int{}
	for i := range d.config.Sources {
		addr, err := netip.ParseAddr(d.config.Sources[i].Host)
		if err != nil {
			continue
		}
		addr = addr.Unmap()
		if j, again := first[addr]; again {
			d.warning(sourcePath(i), "has the address of %s, %s: one machine has one vote, so only one of the two is asked (see docs/configuration.md); leave one out", sourcePath(j), addr)
			continue
		}
		first[addr] = i
	}
}

// warnReceiver warns where one receiver has two votes: gpsd writes the same samples to
// its shared memory and to the socket of chrony's protocol.
func (d *draft) warnReceiver() {
	shm := -1
	for i := range d.config.Sources {
		if s := &d.config.Sources[i]; s.Kind == RefclockSource && !s.NoSelect && s.Refclock.Driver == RefclockSHM {
			shm = i
		}
	}
	for i := range d.config.Sources {
		s := &d.config.Sources[i]
		if shm >= 0 && s.Kind == RefclockSource && !s.NoSelect && s.Refclock.Driver == RefclockSOCK && s.Refclock.Lock == "" {
			d.warning(sourcePath(i), "gpsd sends the same samples here and to the shared memory of %s, so that one receiver has two votes; keep one of them", sourcePath(shm))
		}
	}
}

// warnSameID warns of reference clocks that a client, or chronyc, cannot tell apart.
func (d *draft) warnSameID() {
	first := map[string]int{}
	for i := range d.config.Sources {
		s := &d.config.Sources[i]
		if s.Kind != RefclockSource {
			continue
		}
		if j, again := first[s.Refclock.RefID]; again {
			d.warning(sourcePath(i), "has the reference id %s of %s: who follows us, and chronyc, cannot tell which is meant; give each its own refid", s.Refclock.RefID, sourcePath(j))
			continue
		}
		first[s.Refclock.RefID] = i
	}
}

// warnNTS warns where authenticated sources do not decide: plain ones that a forger may
// outvote them with, and a single operator behind all of them.
func (d *draft) warnNTS() {
	operators, secured, plain, decides := map[string]bool{}, 0, -1, false
	for i := range d.config.Sources {
		switch s := &d.config.Sources[i]; {
		case s.NoSelect || s.Fallback:
		case s.NTS != nil:
			secured++
			operators[operatorOf(s)] = true
			decides = decides || s.Require || s.Trust
		case s.Key == 0 && s.Kind != RefclockSource:
			if plain < 0 {
				plain = i
			}
		default:
			decides = decides || s.Require || s.Trust
		}
	}
	if secured == 0 {
		return
	}
	if plain >= 0 && !decides {
		d.warning(sourcePath(plain), "is not authenticated, and NTS sources are: whoever forges enough plain answers outvotes them; give the NTS sources require or trust, or use NTS here too")
	}
	if secured > 1 && len(operators) == 1 && !operators[""] && plain >= 0 {
		d.warning("sources", "all sources with NTS are of one operator: its mistakes are not outvoted by any authenticated source; add NTS sources of others")
	}
}

// operatorOf gives the domain that a name is registered under, or "" where many
// operators may stand behind it, or none can be told.
func operatorOf(s *Source) string {
	name := strings.ToLower(strings.TrimSuffix(s.Host, "."))
	if _, err := netip.ParseAddr(name); err == nil || name == "" || under(name, "pool.ntp.org") {
		return ""
	}
	labels := strings.Split(name, ".")
	keep := 2
	if n := len(labels); n > 2 && len(labels[n-1]) == 2 && len(labels[n-2]) <= 3 {
		keep = 3 // co.uk, ac.jp, com.au
	}
	if len(labels) < 2 {
		return ""
	}
	return strings.Join(labels[max(len(labels)-keep, 0):], ".")
}

// under says whether a name is this domain or below it.
func under(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// smearing are the public services known to smear leap seconds, and the addresses
// at which clouds serve theirs.
var smearing = []string{
	"time.google.com", "time1.google.com", "time2.google.com", "time3.google.com", "time4.google.com",
	"time.android.com", "metadata.google.internal",
	"time.aws.com", "169.254.169.123", "fd00:ec2::123",
	"time.facebook.com", "time1.facebook.com", "time2.facebook.com", "time3.facebook.com",
	"time4.facebook.com", "time5.facebook.com",
}

// warnSmear warns of sources that differ by up to half a second round a leap second.
func (d *draft) warnSmear() {
	smeared, plain := -1, -1
	for i := range d.config.Sources {
		s := &d.config.Sources[i]
		name := strings.ToLower(strings.TrimSuffix(s.Host, "."))
		switch {
		case s.NoSelect || s.Host == "":
		case slices.Contains(smearing, name):
			if smeared < 0 {
				smeared = i
			}
		case plain < 0:
			plain = i
		}
	}
	if smeared >= 0 && plain >= 0 {
		d.warning(sourcePath(smeared), "%s smears leap seconds, and %s is not known to: they disagree by up to half a second round one; use one sort only",
			d.config.Sources[smeared].Host, d.config.Sources[plain].Host)
	}
}

// warnSource warns of what is risky in one source.
func (d *draft) warnSource(path string, s *Source) {
	if s.Unauthenticated {
		d.warning(path+".unauthenticated", "anybody who can reach this host may set its clock by a forged packet; use a key")
	}
	if addr, err := netip.ParseAddr(s.Host); err == nil && under(addr.Unmap().String(), s.Host) && strings.HasPrefix(s.Host, "127.127.") {
		d.warning(path, "%s is a loopback address here, and no reference clock; write refclock: or local: instead", s.Host)
	}
	if s.MinPoll < 3 && s.Kind == Pool {
		d.warning(path+".min_poll", "asks the volunteers of a pool more often than every 8 s; they may refuse; write 6 or more")
	}
}

// warnServer warns of what is risky in the server.
func (d *draft) warnServer() {
	s := d.config.Server
	if d.config.Symmetric.Unauthenticated {
		d.warning("symmetric.unauthenticated", "anybody who can reach this host may set its clock by a forged packet; use keys")
	}
	if d.given("symmetric.keys") && !d.config.Symmetric.Passive {
		d.warning("symmetric.keys", "have no effect without passive: true; add it, or leave them out")
	}
	if s == nil {
		return
	}
	if !s.Access.Any() && s.RateLimit == nil && s.Require == RequireNone && !onlyLoopback(s.Listen) {
		d.warning("server", "answers everybody, as often as they ask; set access, or rate_limit: {}")
	}
	d.warnLoopback(s)
	for i := range s.Broadcast {
		d.warnSender(fmt.Sprintf("server.broadcast[%d]", i), s.Broadcast[i].Key)
	}
	for i := range s.Multicast {
		d.warnSender(fmt.Sprintf("server.multicast[%d]", i), s.Multicast[i].Key)
	}
}

func (d *draft) warnSender(path string, key uint32) {
	if key == 0 {
		d.warning(path, "sends without a key, so its clients cannot tell it from a forger; use a key")
	}
}

// onlyLoopback says whether no other machine can reach these addresses.
func onlyLoopback(list []ListenAddress) bool {
	return !slices.ContainsFunc(list, func(l ListenAddress) bool { return !l.Addr.IsLoopback() })
}

// warnKeys warns of digests that are no longer held to be strong, and of secrets
// that can be guessed.
func (d *draft) warnKeys() {
	for _, k := range d.config.Keys {
		path := "keys"
		if at := d.keyIDs[k.ID]; d.given(at) {
			path = at
		}
		if k.Type == "md5" || k.Type == "sha1" {
			d.warning(path, "key %d is of type %s, which is weak; use aes128-cmac where the other side knows it (RFC 8573)", k.ID, k.Type)
		}
		if len(k.Secret) < 16 {
			d.warning(path, "key %d has %d bytes, which can be guessed; make one with `timeball keygen`", k.ID, len(k.Secret))
		}
	}
}

// warnIdle warns of keys that have no effect.
func (d *draft) warnIdle() {
	if d.given("clock.virtual") && d.config.Clock.Driver != ClockVirtual {
		d.warning("clock.virtual", "has no effect with driver %s; leave it out", d.config.Clock.Driver)
	}
	if step := d.config.Clock.Step; d.given("clock.step.threshold") && step.Updates == 0 {
		d.warning("clock.step.threshold", "has no effect with updates: 0, which never steps; leave one of them out")
	}
}
