package interop

import (
	"fmt"
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
		if table, complaint, err := client.Run(nil, peers.Binary(t), "check", "--probe", "--config", out); err != nil {
			t.Errorf("%s: check --probe: %s\n%s\n%s", test.name, complaint, table, observed)
			continue
		}
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
