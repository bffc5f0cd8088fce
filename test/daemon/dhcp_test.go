package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"timeball/test/peers"
)

// dhcp is a daemon with a folder of drop-ins, and a machine's helpers of DHCP around it.
type dhcp struct {
	*daemon
	folder string
	env    []string
}

func startDHCP(t *testing.T) *dhcp {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "conf.d")
	p := start(t, fmt.Sprintf("clock: {driver: virtual}\nsources: [{server: 127.9.9.9}]\ninclude: [%s/*.yaml]\n", folder))
	bin := t.TempDir()
	helper, err := filepath.Abs("../../configs/dhcp/timeball-dhcp")
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"timeball": peers.Binary(t), "timeball-dhcp": helper} {
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return &dhcp{p, folder, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TIMEBALL_CONFD="+folder, "TIMEBALL_SOCKET="+p.Socket())}
}

// call runs a caller's command line, with its variables.
func (d *dhcp) call(variables []string, argv ...string) {
	d.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(d.env[:len(d.env):len(d.env)], variables...)
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("%v %v: %v: %s", variables, argv, err, out)
	}
}

// follows waits until the daemon has these sources beside its own, and no other.
func (d *dhcp) follows(hosts ...string) {
	d.t.Helper()
	d.until(fmt.Sprint("the sources ", hosts), func() bool {
		sources, err := d.Sources()
		if err != nil || len(sources) != 1+len(hosts) {
			return false
		}
		for i, host := range hosts {
			if sources[1+i].Name != host {
				return false
			}
		}
		return true
	})
}

func TestServersOfNetworkManager(t *testing.T) {
	t.Parallel()
	d := startDHCP(t)
	const script = "../../configs/dhcp/nm-dispatcher"
	d.call([]string{"DHCP4_NTP_SERVERS=127.9.8.1 127.9.8.2"}, script, "wlan0", "up")
	d.follows("127.9.8.1", "127.9.8.2")
	d.until("the reload is in the log", func() bool { return d.Said("configuration reloaded") > 0 })
	reloads := d.Said("configuration reloaded")
	d.call([]string{"DHCP4_NTP_SERVERS=127.9.8.1 127.9.8.2"}, script, "wlan0", "dhcp4-change")
	if got := d.Said("configuration reloaded"); got != reloads {
		t.Error("it reloaded though nothing had changed")
	}
	d.call(nil, script, "", "hostname") // called so when the host's name changes
	d.call([]string{"CONNECTIVITY_STATE=FULL"}, script, "none", "connectivity-change")
	d.call([]string{"DHCP6_DHCP6_NTP_SERVERS=::1"}, script, "wlan0", "dhcp6-change")
	d.follows("::1")
	d.call(nil, script, "wlan0", "down")
	d.follows()
}

func TestServersOfDhclient(t *testing.T) {
	t.Parallel()
	d := startDHCP(t)
	run := func(variables ...string) { // dhclient-script sources its hooks
		d.call(append(variables, "interface=eth0"), "/bin/sh", "-c", "set -e; . ../../configs/dhcp/dhclient-exit-hook; echo done")
	}
	run("reason=PREINIT")
	run("reason=BOUND", "new_ntp_servers=127.9.8.3 127.9.9.9 $(touch/bad) -x")
	d.follows("127.9.8.3") // the one that is configured already counts once
	if text, _ := os.ReadFile(filepath.Join(d.folder, "dhcp-eth0.yaml")); strings.Contains(string(text), "touch") || strings.Contains(string(text), "-x") {
		t.Errorf("words that are no servers came through: %s", text)
	}
	run("reason=RENEW", "new_ntp_servers=127.9.8.4")
	d.follows("127.9.8.4")
	run("reason=EXPIRE", "new_ntp_servers=127.9.8.4")
	d.follows()
	run("reason=RELEASE")

	// dhclient -6 beside it: neither takes the other's servers away.
	run("reason=BOUND", "new_ntp_servers=127.9.8.5")
	run("reason=BOUND6", "new_dhcp6_ntp_servers=::1 fe80::7")
	d.follows("127.9.8.5", "::1", "fe80::7%eth0")
	run("reason=RENEW", "new_ntp_servers=127.9.8.5")
	run("reason=REBIND6", "new_dhcp6_sntp_servers=::1")
	d.follows("127.9.8.5", "::1")
	run("reason=EXPIRE6")
	d.follows("127.9.8.5")
	run("reason=STOP")
	d.follows()

	// What a removed package leaves behind does nothing, and is no error.
	d.call([]string{"reason=BOUND", "interface=eth0", "new_ntp_servers=127.9.8.5", "PATH=/usr/bin:/bin"}, "/bin/sh", "-c", "set -e; . ../../configs/dhcp/dhclient-exit-hook")
	d.follows()
}

// A DHCP server's nonsense is left out, and does not take the good servers or the
// configuration with it.
func TestServersThatAreNone(t *testing.T) {
	t.Parallel()
	d := startDHCP(t)
	for _, servers := range []string{"0.0.0.0 127.9.8.3", "127.9.8.3 255.255.255.255 1.2.3.4.5 .. a..b", "127.9.8.3 127.9.8.3 224.0.1.1 :: 127.9.8.3"} {
		d.call([]string{"reason=BOUND", "interface=eth0", "new_ntp_servers=" + servers}, "/bin/sh", "-c", "set -e; . ../../configs/dhcp/dhclient-exit-hook")
		d.follows("127.9.8.3")
		if _, complaint, err := d.Run("check", "--config", filepath.Join(d.folder, "dhcp-eth0.yaml")); err != nil {
			t.Errorf("%s: check of the drop-in: %v, %s", servers, err, complaint)
		}
		d.call([]string{"reason=EXPIRE", "interface=eth0"}, "/bin/sh", "-c", "set -e; . ../../configs/dhcp/dhclient-exit-hook")
		d.follows()
	}
	d.call([]string{"DHCP4_NTP_SERVERS=0.0.0.0"}, "../../configs/dhcp/nm-dispatcher", "wlan0", "up")
	d.follows()
	if left, _ := os.ReadDir(d.folder); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestServersOfNetworkd(t *testing.T) {
	t.Parallel()
	d := startDHCP(t)
	links, names := t.TempDir(), t.TempDir()
	d.env = append(d.env, "TIMEBALL_LINKS="+links, "TIMEBALL_NAMES="+names)
	for name, index := range map[string]string{"lo": "1", "eth0": "2", "eth1": "3"} {
		if err := os.MkdirAll(filepath.Join(names, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(names, name, "ifindex"), []byte(index+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	state := func(index, text string) {
		if err := os.WriteFile(filepath.Join(links, index), []byte("# This is private data. Do not parse.\nADMIN_STATE=configured\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const script = "../../configs/dhcp/timeball-dhcp"
	state("2", "DNS=10.0.0.1\nNTP=127.9.8.5 127.9.8.6\n")
	state("3", "NTP=127.9.8.6\n")
	d.call(nil, script, "networkd")
	d.follows("127.9.8.5", "127.9.8.6") // two links with one server
	if err := os.Remove(filepath.Join(links, "2")); err != nil {
		t.Fatal(err)
	}
	d.call(nil, script, "networkd")
	d.follows("127.9.8.6")
	state("3", "NTP=\n")
	d.call(nil, script, "networkd")
	d.follows()
}

// A drop-in that is wrong refuses the reload, whole, and is named.
func TestAFaultyDropInIsNamed(t *testing.T) {
	t.Parallel()
	d := startDHCP(t)
	if err := os.MkdirAll(d.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.folder, "a.yaml"), []byte("sources:\n- {sever: 127.9.8.7}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, complaint, err := d.operate("reload")
	if exitStatus(err) != 1 || !strings.Contains(complaint, "conf.d/a.yaml:2:4: sources[1].sever") {
		t.Errorf("got %q, %v, want the drop-in's place", complaint, err)
	}
	d.follows()
}
