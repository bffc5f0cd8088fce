package packaging

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is a Debian in a folder.
type root struct {
	t   *testing.T
	dir string
}

// inside runs a shell script there and gives what it prints.
func (r *root) inside(script string) (string, error) {
	r.t.Helper()
	cmd := exec.Command("chroot", r.dir, "/bin/sh", "-ec", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// does runs a script that must succeed.
func (r *root) does(what, script string) string {
	r.t.Helper()
	out, err := r.inside(script)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", what, err, out)
	}
	return out
}

// has checks that a script succeeds.
func (r *root) has(what, script string) {
	r.t.Helper()
	if out, err := r.inside(script); err != nil {
		r.t.Errorf("%s: not so: %v %s", what, err, out)
	}
}

// packages are what make package has made, the newest of each kind.
func packages(t *testing.T) (deb, rpm string) {
	t.Helper()
	dist := os.Getenv("TIMEBALL_PACKAGES")
	if dist == "" {
		t.Skip("TIMEBALL_PACKAGES does not say where the packages are: make package, then TIMEBALL_PACKAGES=dist")
	}
	if !filepath.IsAbs(dist) {
		dist = filepath.Join("../..", dist)
	}
	newest := func(pattern string) string {
		found, _ := filepath.Glob(filepath.Join(dist, pattern))
		if len(found) == 0 {
			t.Fatalf("no %s in %s; run make package", pattern, dist)
		}
		return found[len(found)-1]
	}
	return newest("*.deb"), newest("*.rpm")
}

// debian makes a root, or skips the test. TIMEBALL_ROOT names one that is there already.
func debian(t *testing.T) *root {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a root of its own")
	}
	r := &root{t, os.Getenv("TIMEBALL_ROOT")}
	if r.dir == "" {
		program, err := exec.LookPath("debootstrap")
		if err != nil {
			t.Skip("needs debootstrap, or TIMEBALL_ROOT: the folder of a Debian")
		}
		r.dir = filepath.Join(t.TempDir(), "root")
		if out, err := exec.Command(program, "--variant=minbase", "bookworm", r.dir).CombinedOutput(); err != nil {
			t.Skipf("no Debian can be had: %v: %s", err, out[max(0, len(out)-300):])
		}
	}
	write(t, filepath.Join(r.dir, "usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", 0o755) // nothing starts
	return r
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// give copies a package into the root.
func (r *root) give(from, as string) {
	r.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		r.t.Fatal(err)
	}
	write(r.t, filepath.Join(r.dir, "tmp", as), string(text), 0o644)
}

func TestTheLifeOfThePackage(t *testing.T) {
	deb, _ := packages(t)
	r := debian(t)
	r.does("clean", "dpkg --purge timeball >/dev/null 2>&1 || true; rm -rf /etc/timeball /var/lib/timeball /usr/local/lib/systemd")
	r.give(deb, "timeball.deb")
	older := filepath.Join(r.dir, "tmp/older")
	if out, err := exec.Command("sh", "-ec", fmt.Sprintf("rm -rf %[1]s; dpkg-deb -R %[2]s %[1]s; sed -i 's/^Version: .*/Version: 0.0.0~older/' %[1]s/DEBIAN/control; dpkg-deb -b %[1]s %[1]s.deb",
		older, deb)).CombinedOutput(); err != nil {
		t.Fatalf("an older package: %v: %s", err, out)
	}
	const install = "apt-get install -y --allow-downgrades "

	r.does("install", install+"/tmp/older.deb")
	r.has("the binary", "timeball version")
	r.has("the example is good", "timeball check")
	r.has("user", "getent passwd timeball")
	r.has("its folder, for nobody else", `[ "$(stat -c %U:%a /var/lib/timeball)" = timeball:700 ]`)
	r.has("drop-ins", "[ -d /etc/timeball/conf.d ]")
	r.has("units", "grep -q ExecStart=/usr/bin/timeball /lib/systemd/system/timeball.service")
	r.has("manual pages", "for page in timeball timeball-run timeball-convert timeball-reload; do [ -e /usr/share/man/man8/$page.8.gz ]; done; [ -e /usr/share/man/man5/timeball.yaml.5.gz ]")
	r.has("completions", "[ -s /usr/share/bash-completion/completions/timeball ]")

	r.does("enable further units, as systemctl does", "for link in time-sync.target.wants/timeball-wait.service multi-user.target.wants/timeball-networkd.path; do "+
		"mkdir -p /etc/systemd/system/${link%/*}; ln -sf /lib/systemd/system/${link#*/} /etc/systemd/system/$link; done")
	r.does("a changed configuration, drift and keys", "echo '# mine' >> /etc/timeball/timeball.yaml; echo 1 > /var/lib/timeball/drift; echo '[]' > /etc/timeball/keys.yaml")
	r.does("upgrade", install+"/tmp/timeball.deb")
	r.has("the configuration is kept", "tail -1 /etc/timeball/timeball.yaml | grep -q mine")
	r.has("drift and keys are kept", "[ -e /var/lib/timeball/drift ] && [ -e /etc/timeball/keys.yaml ]")

	r.does("remove", "apt-get remove -y timeball")
	r.has("no program is left, but the configuration", "! [ -e /usr/bin/timeball ] && [ -e /etc/timeball/timeball.yaml ] && [ -e /var/lib/timeball/drift ]")
	r.does("purge", "apt-get purge -y timeball")
	r.has("nothing is left", "! [ -e /etc/timeball ] && ! [ -e /var/lib/timeball ] && ! getent passwd timeball && ! find / -xdev -name '*timeball*' -not -path '/tmp/*' -not -path '/proc/*' -not -path '/var/log/*' | grep .")
}

// What make install has put there stays the administrator's.
func TestThePackageOverMakeInstall(t *testing.T) {
	deb, _ := packages(t)
	r := debian(t)
	r.does("clean", "dpkg --purge timeball >/dev/null 2>&1 || true; rm -rf /etc/timeball /var/lib/timeball")
	r.give(deb, "timeball.deb")
	write(t, filepath.Join(r.dir, "etc/timeball/timeball.yaml"), "sources: [{server: 192.0.2.1, key: 4}]\nkeys: /etc/timeball/keys.yaml\n", 0o644)
	write(t, filepath.Join(r.dir, "etc/timeball/keys.yaml"), "- {id: 4, type: sha1, text: secret}\n", 0o600)
	write(t, filepath.Join(r.dir, "var/lib/timeball/drift"), "1\n", 0o600)
	write(t, filepath.Join(r.dir, "usr/local/lib/systemd/system/timeball.service"), "[Service]\nExecStart=/usr/local/bin/timeball run\n", 0o644)
	r.does("install", "apt-get install -y /tmp/timeball.deb")
	r.has("configuration, keys and drift are kept", "grep -q 192.0.2.1 /etc/timeball/timeball.yaml && [ -e /etc/timeball/keys.yaml ] && [ -e /var/lib/timeball/drift ]")
	r.has("the old unit does not hide the new one", "! [ -e /usr/local/lib/systemd/system/timeball.service ]")
	r.does("again", "apt-get install -y --reinstall /tmp/timeball.deb")
	r.has("still kept", "grep -q 192.0.2.1 /etc/timeball/timeball.yaml")
	r.does("purge", "apt-get purge -y timeball; rm -rf /usr/local/lib/systemd")
}

// chrony gives way, as one time daemon does to another.
func TestOneTimeDaemon(t *testing.T) {
	deb, _ := packages(t)
	r := debian(t)
	r.give(deb, "timeball.deb")
	if out, err := r.inside("apt-get update && apt-get install -y chrony"); err != nil {
		t.Skipf("chrony cannot be installed: %s", out[max(0, len(out)-200):])
	}
	r.does("install", "apt-get install -y /tmp/timeball.deb")
	r.has("chrony is gone", "! dpkg -s chrony 2>/dev/null | grep -q 'Status: install ok installed'")
	r.does("purge", "apt-get purge -y timeball chrony")
}

func TestLintian(t *testing.T) {
	deb, _ := packages(t)
	r := debian(t)
	r.give(deb, "timeball.deb")
	if out, err := r.inside("command -v lintian || { apt-get update && apt-get install -y --no-install-recommends lintian; }"); err != nil {
		t.Skipf("lintian cannot be installed: %s", out[max(0, len(out)-300):])
	}
	out, err := r.inside("lintian --allow-root --fail-on error --tag-display-limit 0 /tmp/timeball.deb")
	if err != nil || strings.Contains(out, "\nE: ") || strings.HasPrefix(out, "E: ") {
		t.Errorf("lintian: %v\n%s", err, out)
	}
	t.Log(out)
}

func TestTheRPM(t *testing.T) {
	_, rpm := packages(t)
	program, err := exec.LookPath("rpm")
	if err != nil {
		t.Skip("needs rpm")
	}
	out, err := exec.Command(program, "-qlp", rpm).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, file := range []string{"/usr/bin/timeball", "/etc/timeball/timeball.yaml", "/usr/lib/systemd/system/timeball.service", "/usr/share/man/man8/timeball.8.gz",
		"/usr/share/man/man5/timeball.yaml.5.gz", "/usr/lib/sysusers.d/timeball.conf"} {
		if !strings.Contains(string(out), file+"\n") {
			t.Errorf("%s is not in it:\n%s", file, out)
		}
	}
}
