package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// The stock files of Debian's packages become configurations that timeball takes.
func TestStockConfigurationsConvert(t *testing.T) {
	if testing.Short() {
		t.Skip("short: Debian's packages are left out")
	}
	h := peers.Here(t)
	for _, stock := range []struct{ pkg, program, file, says string }{
		{"chrony", "usr/sbin/chronyd", "usr/share/chrony/chrony.conf", "pool: \"2.debian.pool.ntp.org\""},
		{"ntpsec", "usr/sbin/ntpd", "etc/ntpsec/ntp.conf", "min_sources: 3"},
		{"openntpd", "usr/sbin/ntpd", "etc/openntpd/ntpd.conf", "pool: \"0.debian.pool.ntp.org\""},
		{"systemd-timesyncd", "usr/lib/systemd/systemd-timesyncd", "etc/systemd/timesyncd.conf", "fallback: true"},
	} {
		program := peers.Unpack(t, stock.pkg, stock.program)
		file := filepath.Join(strings.TrimSuffix(program.Path, stock.program), stock.file)
		if _, err := os.Stat(file); err != nil && stock.pkg == "systemd-timesyncd" {
			file = filepath.Join(strings.TrimSuffix(program.Path, stock.program), "usr/lib/systemd/timesyncd.conf")
		}
		text, summary, err := h.Run(nil, peers.Binary(t), "convert", file)
		if err != nil || !strings.Contains(text, stock.says) || !strings.Contains(summary, "0 refused") {
			t.Errorf("%s: got %v, %s\n%s\nwant it to say %q", stock.pkg, err, summary, text, stock.says)
			continue
		}
		out := h.Write(stock.pkg+".yaml", text)
		if _, complaint, err := h.Run(nil, peers.Binary(t), "check", "--config", out); err != nil {
			t.Errorf("%s: check of the result: %s", stock.pkg, complaint)
		}
	}
}

// A configuration of each of the five, with what people add, becomes one with which
// timeball finds the servers and follows them. The clock is only observed.
func TestConvertedConfigurationsSynchronize(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	first, second, third, client := lab.Host("first"), lab.Host("second"), lab.Host("third"), lab.Host("client")
	for _, h := range []*peers.Host{first, second, third} {
		peers.Timeball(t, h, "clock: {driver: observe}\nlocal: {stratum: 1}\nserver: {}\n"+
			"keys: [{id: 5, type: sha1, text: secret}]\n")
	}
	a, b, c := first.IPv4, second.IPv4, third.IPv4
	keys := client.Write("ntp.keys", "5 SHA1 secret\n")
	chronyKeys := client.Write("chrony.keys", "5 SHA1 ASCII:secret\n")
	for _, test := range []struct{ name, text string }{
		{"chrony.conf", fmt.Sprintf("server %s iburst key 5\nserver %s iburst minpoll 4\npeer-less line\nserver %s iburst prefer\nkeyfile %s\nmakestep 1 3\nrtcsync\nallow 10.0.0.0/8\ndeny 10.99.0.0/16\n",
			a, b, c, chronyKeys)},
		{"ntp.conf", fmt.Sprintf("driftfile /x\nserver %s iburst key 5\nserver %s iburst # second\nserver %s iburst minpoll 4\nkeys %s\ntrustedkey 5\nrestrict default kod nomodify nopeer noquery limited\nrestrict 127.0.0.1\ntos minsane 2\n",
			a, b, c, keys)},
		{"timesyncd.conf", fmt.Sprintf("[Time]\nNTP=%s %s\nFallbackNTP=%s\nRootDistanceMaxSec=2\n", a, b, c)},
		{"ntpd.conf", fmt.Sprintf("# openntpd\nlisten on *\nserver %s weight 3\nserver %s trusted\nserver %s\nconstraints from \"https://www.example.org\"\n", a, b, c)},
		{"ntp.toml", fmt.Sprintf("[[source]]\nmode = \"server\"\naddress = \"%s\"\n[[source]]\nmode = \"server\"\naddress = \"%s:123\"\n[synchronization]\nminimum-agreeing-sources = 2\n", a, b)},
		{"chrony-b.conf", fmt.Sprintf("! authenticated time beside plain\nAuthSelectMode prefer\nSERVER %s iburst key 5 minpoll 3 maxpoll 5 asymmetry 0.5\nserver %s key 5 iburst xleave\nserver %s iburst\nkeyfile %s\nmakestep 0.1 -1\nbroadcast 60 10.255.255.255\nratelimit interval 1 burst 16\nlocal stratum 10 orphan\nmaxdistance 2\n",
			a, b, c, chronyKeys)},
		{"ntp-b.conf", fmt.Sprintf("keys %s\ntrustedkey (4 ... 6)\nserver %s iburst key 5 minpoll 4 # signed\nserver %s iburst prefer\nserver %s noselect\nserver 127.127.1.0\nfudge 127.127.1.0 stratum 12\ninterface ignore wildcard\ninterface listen 127.0.0.1\ninterface ignore lo9\nrestrict -4 default limited kod\nrestrict -6 default ignore\nrestrict 10.0.0.0 mask 255.0.0.0 nopeer\nrestrict 10.9.0.0 mask 255.255.0.0 ignore\ntinker panic 0 step 0.2\ntos minsane 2 orphan 8 orphanwait 60\n",
			keys, a, b, c)},
		{"timesyncd-b.conf", fmt.Sprintf("; site\n[Time]\nNTP=127.0.0.99\nNTP=\nNTP=%s \\\n  %s\nServers=%s\nFallbackNTP=\nPollIntervalMinSec=16\nPollIntervalMaxSec=1min 4s\n", a, b, c)},
		{"ntpd-b.conf", fmt.Sprintf("listen on *\nlisten on 127.0.0.1\nserver %s weight 10 trusted\nservers \\\n\t%s\nserver \"%s\"\nsensor *\nconstraint from 9.9.9.9\n", a, b, c)},
		{"ntp-b.toml", fmt.Sprintf("source-defaults.poll-interval-limits = { min = 4, max = 6 }\nsource = [{ mode = \"server\", address = \"%s\" }, { mode = \"pool\", address = \"%s\", count = 1 }]\n[[server]]\nlisten = \"127.0.0.1:11123\"\n[server.allowlist]\nfilter = [\"10.0.0.0/8\"]\naction = \"ignore\"\n[server.denylist]\nfilter = [\"10.9.0.0/16\"]\naction = \"deny\"\n[synchronization]\nminimum-agreeing-sources = 2\nsingle-step-panic-threshold.forward = \"inf\"\nsingle-step-panic-threshold.backward = 900\n", a, b)},
		{"chrony-c.conf", fmt.Sprintf("pool %s iburst maxsources 1 offset 0.0\npool %s iburst maxsources 1 maxdelay 0.1 maxdelayratio 3\nserver %s iburst presend 6 minsamples 8\nminsources 2\nmaxupdateskew 100.0\nleapsectz right/UTC\nlogdir /var/log/chrony\nlog tracking measurements statistics\nallow 10.0.0.0/8\nallow fd00::/8\nclientloglimit 1048576\ncmdallow 127.0.0.1\nbindcmdaddress 127.0.0.1\nlogchange 0.5\nhwtimestamp *\nlock_all\nsched_priority 1\n",
			a, b, c)},
		{"ntp-c.conf", fmt.Sprintf("driftfile /x/ntp.drift\nstatsdir /x/stats/\nstatistics loopstats peerstats clockstats\nfilegen loopstats file loopstats type day enable\nfilegen peerstats file peerstats type day enable\npool %s iburst maxpoll 8\nserver -4 %s iburst version 4 maxpoll 8\npeer %s minpoll 4\ntos maxclock 11 minclock 3 mindist 0.01\nmru maxdepth 1000\nrestrict default kod limited nomodify nopeer noquery\nrestrict source nomodify noquery\nrestrict 127.0.0.1\nrestrict ::1\nlogfile /x/ntp.log\nlogconfig =syncall +clockall\n",
			a, b, c)},
		{"timesyncd-c.conf", fmt.Sprintf("[Time]\n# three of our own\nNTP=%s\nNTP=%s %s\nConnectionRetrySec=10\nSaveIntervalSec=120\nRootDistanceMaxSec=3s\nPollIntervalMaxSec=512\n", a, b, c)},
		{"ntpd-c.conf", fmt.Sprintf("# $OpenBSD$\nlisten on 127.0.0.1 rtable 0\nlisten on ::1\nquery from %s\nserver %s\nservers %s weight 5\nservers %s trusted\nsensor nmea0 correction 5000 refid GPS stratum 2\nconstraints from \"https://www.example.org\"\n", client.IPv4, a, b, c)},
		{"ntp-c.toml", fmt.Sprintf("[observability]\nlog-level = \"info\"\nobservation-path = \"/var/run/ntpd-rs/observe\"\n\n[[source]]\nmode = \"pool\"\naddress = \"%s\"\ncount = 1\n\n[[source]]\nmode = \"server\"\naddress = \"%s\"\n\n[[source]]\nmode = \"server\"\naddress = \"%s\"\n\n[[server]]\nlisten = \"127.0.0.1:12123\"\nrate-limiting-cache-size = 32\nrate-limiting-cutoff-ms = 1000\n\n[synchronization]\nminimum-agreeing-sources = 3\nlocal-stratum = 12\nstartup-step-panic-threshold = { forward = \"inf\", backward = 86400 }\n", a, b, c)},
	} {
		file := client.Write(test.name, test.text)
		keyFile := filepath.Join(client.Dir, test.name+".keys.yaml")
		text, summary, err := client.Run(nil, peers.Binary(t), "convert", file, "--keys", keyFile)
		if text == "" || (err != nil && test.name != "chrony.conf") {
			t.Errorf("%s: got %v, %s", test.name, err, summary)
			continue
		}
		observed := strings.Replace(text, "\nclock:\n", "\nclock:\n  driver: observe\n", 1)
		if observed == text {
			observed += "\nclock: {driver: observe}\n"
		}
		out := client.Write(test.name+".yaml", observed)
		peers.Eventually(t, 60*time.Second, test.name+" passes check --probe", func() error { // the servers may be starting still
			table, complaint, err := client.Run(nil, peers.Binary(t), "check", "--probe", "--config", out)
			if err != nil {
				return fmt.Errorf("%w: %s\n%s\n%s", err, complaint, table, observed)
			}
			return nil
		})
		d := peers.Timeball(t, client, observed)
		peers.Eventually(t, 60*time.Second, test.name+" synchronizes", func() error {
			tracking, err := d.Tracking()
			if err == nil && !tracking.Synchronized {
				err = fmt.Errorf("state %s", tracking.State)
			}
			return err
		})
		if _, err := d.Stop(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// Whom ntpsec's ntpd answers, and what, is whom timeball answers: the lines of restrict for
// one network add up, what is built in for all others stays, and unrestrict takes back; and
// with an interface line of any kind nobody is answered at an address that none of them names.
func TestRightsMeanTheSame(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	ntpd := peers.Unpack(t, "ntpsec", "usr/sbin/ntpd")
	request := make([]byte, 48)
	request[0] = 0x23                                      // version 4, mode 3
	query := []byte{0x16, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0} // READSTAT of the system
	answers := func(from *peers.Host, address netip.Addr, request []byte, within time.Duration) bool {
		_, err := from.Exchange(netip.AddrPortFrom(address, 123), request, within)
		return err == nil
	}
	for i, lines := range []string{
		"restrict default",
		"restrict default nomodify\nunrestrict default noquery limited",
		"restrict default nopeer noquery\nrestrict 10.0.0.0/8 noserve\nrestrict 10.0.0.0/8",
		"restrict 10.0.0.0 mask 255.0.0.0 noserve\nrestrict 10.0.0.0/8 noquery",
		"restrict 10.0.0.0/8 ignore\nunrestrict 10.0.0.0/8 ignore",
		"restrict default ignore\nrestrict 10.0.0.0/8 noserve\nunrestrict 10.0.0.0/8 noserve",
		"restrict 10.0.0.0/8 kod\nunrestrict 10.0.0.0/8",
		"interface ignore wildcard",
		"interface ignore ipv6",
		"interface drop nosuch7",
		"interface listen all",
		"interface ignore wildcard\ninterface listen ipv4",
	} {
		conf := server.Write(fmt.Sprintf("restrict%d.conf", i), "disable kernel ntp\n"+lines+"\nrestrict 127.0.0.1\n")
		loopback := netip.MustParseAddr("127.0.0.1")
		ask := func(p *peers.Process) (of [2]bool) {
			peers.Eventually(t, 20*time.Second, "an answer on loopback", func() error {
				if !answers(server, loopback, query, time.Second) {
					return errors.New("none")
				}
				return nil
			})
			// Who answers one answers within a second; what is silent has had the same time twice.
			for n, asked := range [][]byte{request, query} {
				for range 2 {
					of[n] = of[n] || answers(client, server.IPv4, asked, time.Second)
				}
			}
			if _, err := p.Stop(); err != nil {
				t.Logf("%v", err)
			}
			return of
		}
		theirs := ask(server.Start("ntpd", ntpd.Env(), ntpd.Path, "-n", "-c", conf, "-l", "/dev/stderr",
			"-f", filepath.Join(server.Dir, "drift"), "-p", filepath.Join(server.Dir, "ntpd.pid")))
		text, complaint, err := server.Run(nil, peers.Binary(t), "convert", "--format", "ntpsec", conf)
		if err != nil {
			t.Fatalf("%s: %v: %s", lines, err, complaint)
		}
		text = strings.Replace(text, "\nclock:\n  driver: observe\n", "\nlocal: {}\nclock:\n  driver: observe\n", 1)
		ours := ask(peers.Timeball(t, server, text).Process)
		if ours != theirs {
			t.Errorf("%q: timeball answers time and query %v, ntpsec %v\n%s", lines, ours, theirs, text)
		}
	}
}
