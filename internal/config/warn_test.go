package config

import (
	"io/fs"
	"strings"
	"testing"
)

// warningsOf gives the warnings of a good configuration without the file's name.
func warningsOf(t *testing.T, text string, mode fs.FileMode) []string {
	t.Helper()
	d := parse("c", []byte(text))
	d.mode = mode
	if c, problems := d.finish(); c == nil {
		t.Fatalf("got problems, want none:\n%s", strings.Join(messages(problems), "\n"))
	}
	return messages(d.warn())
}

const fourSources = "sources: [{server: a.example}, {server: b.test}, {server: c.invalid}, {pool: pool.ntp.org, count: 1}]\n"

func TestWarnings(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"four sources of four operators are good", fourSources, nil},
		{"a pool of four is good", "sources: [{pool: pool.ntp.org}]", nil},
		{"a national pool is many operators", "sources: [{pool: 0.de.pool.ntp.org, count: 2}, {pool: 1.de.pool.ntp.org, count: 2}]", nil},
		{"NTS beside plain sources", "sources: [{server: a.example, nts: true}, {server: b.test, nts: true}, {server: c.example}, {server: d.invalid}]",
			[]string{"1:72: sources[2]: is not authenticated, and NTS sources are: whoever forges enough plain answers outvotes them; give the NTS sources require or trust, or use NTS here too"}},
		{"NTS that decides", "sources: [{server: a.example, nts: true, require: true}, {server: b.test, nts: true}, {server: c.example}, {server: d.invalid}]", nil},
		{"one source", "sources: [{server: a}]",
			[]string{"1:10: sources: one source only: nothing tells when it is wrong; use four or more (RFC 8633 3.2)"}},
		{"two sources", "sources: [{server: a}, {server: b}]",
			[]string{"1:10: sources: two sources only: if they disagree there is no majority, and neither is used; use four or more (RFC 8633 3.2)"}},
		{"three sources", "sources: [{server: a}, {pool: pool.ntp.org, count: 2}]",
			[]string{"1:10: sources: three sources: one wrong and one silent leave no majority; use four or more (RFC 8633 3.2)"}},
		{"a trusted source is enough", "sources: [{server: a, trust: true}]", nil},
		{"one receiver, two votes", "sources: [{refclock: {driver: shm}}, {refclock: {driver: sock, device: /run/gps.sock}}]",
			[]string{"1:38: sources[1]: gpsd sends the same samples here and to the shared memory of sources[0], so that one receiver has two votes; keep one of them"}},
		{"a receiver whose socket numbers no vote", "sources: [{refclock: {driver: shm}}, {refclock: {driver: sock, device: /run/gps.sock}, no_select: true}]", nil},
		{"two clocks of one name", "sources: [{refclock: {driver: shm, unit: 2}}, {refclock: {driver: shm, unit: 3}}]",
			[]string{"1:47: sources[1]: has the reference id SHM of sources[0]: who follows us, and chronyc, cannot tell which is meant; give each its own refid"}},
		{"a reference clock is enough", "sources: [{refclock: {driver: shm}}]", nil},
		{"measured sources do not count", "sources: [{server: a}, {server: b, no_select: true}]",
			[]string{"1:10: sources: one source only: nothing tells when it is wrong; use four or more (RFC 8633 3.2)"}},
		{"no source at all", "log: {}",
			[]string{"1:1: sources: no source may set the clock, so it runs free; add one, like - pool: pool.ntp.org"}},
		{"a local reference needs no source", "local: {}\nserver: {rate_limit: {}}", nil},
		{"more wanted than there are", "selection: {min_sources: 5}\n" + fourSources,
			[]string{"1:26: selection.min_sources: wants 5 sources, and there are 4, so the clock is never set; lower it or add sources"}},
		{"one operator", "sources: [{server: a.x.example}, {server: b.x.example}, {server: c.x.example}, {server: x.example}]",
			[]string{"1:10: sources: all sources are of x.example: its mistakes are not outvoted; add sources of others"}},
		{"one operator under co.uk", "sources: [{server: a.x.co.uk}, {server: b.x.co.uk}, {server: c.x.co.uk}, {server: d.x.co.uk}]",
			[]string{"1:10: sources: all sources are of x.co.uk: its mistakes are not outvoted; add sources of others"}},
		{"two operators under co.uk", "sources: [{server: a.x.co.uk}, {server: b.x.co.uk}, {server: c.y.co.uk}, {server: d.x.co.uk}]", nil},
		{"the pool of one operator", "sources: [{pool: time.x.example}]",
			[]string{"1:10: sources: all sources are of x.example: its mistakes are not outvoted; add sources of others"}},
		{"addresses have no operator", "sources: [{server: 192.0.2.1}, {server: 192.0.2.2}, {server: 192.0.2.3}, {server: 2001:db8::1}]", nil},
		{"one machine twice, at two ports", "sources: [{server: 192.0.2.1}, {server: 192.0.2.2}, {server: 192.0.2.3}, {server: \"192.0.2.1:124\"}]",
			[]string{"1:74: sources[3]: has the address of sources[0], 192.0.2.1: one machine has one vote, so only one of the two is asked (see docs/configuration.md); leave one out"}},
		{"smeared and unsmeared", "sources:\n  - pool: pool.ntp.org\n  - server: TIME.google.com.\n",
			[]string{"3:5: sources[1]: TIME.google.com. smears leap seconds, and pool.ntp.org is not known to: they disagree by up to half a second round one; use one sort only"}},
		{"smeared only", "sources: [{server: time.google.com}, {server: time.aws.com}, {server: time.facebook.com}, {server: 169.254.169.123}]", nil},
		{"unauthenticated modes", fourSources[:len(fourSources)-2] + ",\n{peer: d, unauthenticated: true}]\nserver: {rate_limit: }\nsymmetric: {passive: true, unauthenticated: true}",
			[]string{
				"2:28: sources[4].unauthenticated: anybody who can reach this host may set its clock by a forged packet; use a key",
				"4:45: symmetric.unauthenticated: anybody who can reach this host may set its clock by a forged packet; use keys",
			}},
		{"senders without a key", fourSources + "server:\n  rate_limit: {}\n  broadcast: [{interface: eth0}]\n  multicast: [{unauthenticated: true}]",
			[]string{
				"4:15: server.broadcast[0]: sends without a key, so its clients cannot tell it from a forger; use a key",
				"5:15: server.multicast[0]: sends without a key, so its clients cannot tell it from a forger; use a key",
			}},
		{"weak keys", fourSources + "keys:\n  - {id: 1, type: md5, text: a secret of some length}\n  - {id: 2, type: sha1, text: a secret of some length}\n  - {id: 3, type: sha256, text: short}\n  - {id: 4, type: sha256, text: a secret of some length}",
			[]string{
				"3:5: keys[0]: key 1 is of type md5, which is weak; use aes128-cmac where the other side knows it (RFC 8573)",
				"4:5: keys[1]: key 2 is of type sha1, which is weak; use aes128-cmac where the other side knows it (RFC 8573)",
				"5:5: keys[2]: key 3 has 5 bytes, which can be guessed; make one with `timeball keygen`",
			}},
		{"an open server", fourSources + "server:\n  workers: 1",
			[]string{"3:3: server: answers everybody, as often as they ask; set access, or rate_limit: {}"}},
		{"a server with rights", fourSources + "server: {access: {server: [127.0.0.0/8, \"::1\"], synchronization: [0.0.0.0/0]}}", nil},
		{"this host in a list for the world", fourSources + "server: {access: {synchronization: [0.0.0.0/0, \"::/0\"], query: [127.0.0.0/8, \"::1\"]}}",
			[]string{`2:18: server.access: this host itself does not get control queries (ntpq): the first list that holds its address counts; add server: [127.0.0.0/8, "::1"]`}},
		{"this host without the time", fourSources + "server: {access: {server: [\"::1\"], query: [127.0.0.0/8]}}",
			[]string{"2:18: server.access: this host itself does not get the time: the first list that holds its address counts; add server: [127.0.0.0/8]"}},
		{"this host denied, and not listed", fourSources + "server: {access: {server: [127.0.0.0/8, {networks: [127.0.0.1/32], deny: true}]}}",
			[]string{`2:18: server.access: this host itself does not get the time or control queries (ntpq): the first list that holds its address counts; add server: [127.0.0.0/8, "::1"]`}},
		{"a server on loopback", fourSources + "server: {listen: [\"127.0.0.1:123\", \"[::1]:123\"]}", nil},
		{"keys that may mobilize nothing", fourSources + "symmetric: {keys: [1]}\nkeys: [{id: 1, type: sha256, text: a secret of some length}]",
			[]string{"2:19: symmetric.keys: have no effect without passive: true; add it, or leave them out"}},
		{"an idle virtual clock", fourSources + "clock: {virtual: {offset: 1s}}",
			[]string{"2:18: clock.virtual: has no effect with driver kernel; leave it out"}},
		{"an idle step", fourSources + "clock: {step: {threshold: 1s, updates: 0}}",
			[]string{"2:27: clock.step.threshold: has no effect with updates: 0, which never steps; leave one of them out"}},
		{"the local clock of other daemons", "sources: [{server: a}, {server: b}, {server: c}, {server: 127.127.1.0}]",
			[]string{"1:50: sources[3]: 127.127.1.0 is a loopback address here, and no reference clock; write refclock: or local: instead"}},
		{"a hurried pool", "sources: [{pool: pool.ntp.org, min_poll: 2}]",
			[]string{"1:42: sources[0].min_poll: asks the volunteers of a pool more often than every 8 s; they may refuse; write 6 or more"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(warningsOf(t, test.text, 0o600), "\n")
			if want := strings.Join(test.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestWarningsOfTheFilesMode(t *testing.T) {
	keys := fourSources + "keys: [{id: 1, type: sha256, text: a secret of some length}]"
	tests := []struct {
		name, text string
		mode       fs.FileMode
		want       string
	}{
		{"private", keys, 0o600, ""},
		{"not known", keys, 0, ""},
		{"readable, without keys", fourSources, 0o644, ""},
		{"readable, with keys", keys, 0o644, "2:7: keys: others can read this file and the keys in it (mode 0644); run chmod 600 c, or move the keys to a file of their own"},
		{"writable", fourSources, 0o602, "1:1: everybody may write this file (mode 0602); run chmod go-w c"},
		{"writable by the group", fourSources, 0o620, "1:1: others of its group may write this file (mode 0620), and so set this machine's clock; run chmod g-w c"},
	}
	for _, test := range tests {
		if got := strings.Join(warningsOf(t, test.text, test.mode), "\n"); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestLoadSeesTheMode(t *testing.T) {
	_, warnings, err := Load(write(t, "c.yaml", fourSources, 0o666))
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0].Message, "mode 0666") {
		t.Errorf("got %v, %v, want one warning of mode 0666", warnings, err)
	}
}
