package interop

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// chronyd13 starts Debian 13's chronyd, which offers AEAD 30.
func chronyd13(t *testing.T, h *peers.Host, conf string) *peers.Process {
	t.Helper()
	argv := peers.UnpackNewer(t, "usr/sbin/chronyd", "libgnutls30t64", "chrony", "libc6", "libnettle8t64", "libhogweed6t64", "libgmp10",
		"libp11-kit0", "libidn2-0", "libunistring5", "libtasn1-6", "libffi8", "libseccomp2", "libcap2", "libedit2", "libbsd0", "libmd0", "libtinfo6").Argv()
	conf += fmt.Sprintf("\npidfile %s/chronyd.pid\nbindcmdaddress %s/chronyd.sock\ncmdport 0\n", h.Dir, h.Dir)
	return h.Start("chronyd 4.6.1", nil, append(argv, "-x", "-d", "-u", "root", "-f", h.Write("chrony.conf", conf))...)
}

// Debian 13's chrony and timeball agree on AEAD 30 by record 1024, and on its keys.
func TestTimeballSelectsChronyd13ByNTS(t *testing.T) {
	a, server, client := ntsLab(t)
	chronyd13(t, server, chronydNTS(a, server, ""))
	serves(t, client, server.IPv4)
	d := peers.Timeball(t, client, ntsClient(a, client, server.IPv4.String()))
	follows(t, d, 60*time.Second, server.IPv4)
	out, _, err := d.Run("sources", "--json")
	if err != nil || !strings.Contains(out, "AEAD_AES_128_GCM_SIV") {
		t.Errorf("got %v, %s; want AEAD 30", err, out)
	}
}

func TestChronyd13SelectsTimeballByNTS(t *testing.T) {
	a, server, client := ntsLab(t)
	d := peers.Timeball(t, server, ntsServer(a, server, ""))
	serves(t, client, server.IPv4)
	c := chronyd13(t, client, fmt.Sprintf("server %v nts minpoll 0 maxpoll 0 iburst\nntstrustedcerts %s", server.IPv4, a.Write(client)))
	c.Says(40*time.Second, "Selected source "+server.IPv4.String())
	if naks := answersByNTS(t, d, 8); naks != 0 {
		t.Errorf("got %d NAKs, want none: the keys of AEAD 30 differ", naks)
	}
}

// ntpdRS starts Debian 13's ntpd-rs with this configuration. It has no way to only observe,
// so that its calls to set the clock are kept from the kernel (it has no right to them
// either, and would end).
func ntpdRS(t *testing.T, h *peers.Host, conf string) *peers.Process {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc")
	}
	shim := filepath.Join(h.Dir, "noclock.so")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-o", shim, "testdata/noclock.c").CombinedOutput(); err != nil {
		t.Skipf("gcc: %v: %s", err, out)
	}
	argv := peers.UnpackNewer(t, "usr/bin/ntp-daemon", "ntpd-rs", "libc6", "libgcc-s1").Argv()
	argv = append([]string{argv[0], "--preload", shim}, argv[1:]...)
	return h.Start("ntpd-rs", nil, append(argv, "-c", h.Write("ntp.toml", conf))...)
}

func TestTimeballAsksNtpdRSByNTS(t *testing.T) {
	a, server, client := ntsLab(t)
	certificate, key := a.Issue(server, server.IPv4.String(), "localhost")
	ntpdRS(t, server, fmt.Sprintf(`
[synchronization]
local-stratum = 3
[[server]]
listen = "0.0.0.0:123"
[[nts-ke-server]]
listen = "0.0.0.0:4460"
certificate-chain-path = %q
private-key-path = %q
[keyset]
key-storage-path = %q
`, certificate, key, filepath.Join(server.Dir, "keys")))
	d := peers.Timeball(t, client, ntsClient(a, client, server.IPv4.String()))
	// Without a source of its own ntpd-rs has no time to give; what it says of itself is
	// believed only because it is authenticated.
	peers.Eventually(t, 60*time.Second, "timeball takes ntpd-rs's word that it is not synchronized", func() error {
		out, complaints, err := d.Run("sources", "--json")
		switch {
		case err != nil:
			return fmt.Errorf("%w: %s", err, complaints)
		case !strings.Contains(out, `"cookies": 8`) || !strings.Contains(out, "it says itself that it is not synchronized"):
			return fmt.Errorf("got %s", out)
		}
		return nil
	})
}

func TestNtpdRSSelectsTimeballByNTS(t *testing.T) {
	a, server, client := ntsLab(t)
	d := peers.Timeball(t, server, ntsServer(a, server, ""))
	serves(t, client, server.IPv4)
	p := ntpdRS(t, client, fmt.Sprintf(`
[[source]]
mode = "nts"
address = "%v"
certificate-authority = %q
[synchronization]
minimum-agreeing-sources = 1
single-step-panic-threshold = 1000
startup-step-panic-threshold = { forward = "inf", backward = 86400 }
[observability]
log-level = "info"
`, server.IPv4, a.Write(client)))
	if naks := answersByNTS(t, d, 4); naks != 0 {
		t.Errorf("got %d NAKs, want none", naks)
	}
	if ended, err := p.Ended(); ended {
		t.Errorf("ntpd-rs has ended: %v", err)
	}
}
