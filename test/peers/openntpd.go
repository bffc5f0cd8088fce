package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// openntpdPlace is what openntpd finds fixed in itself: a user, its home as the
// directory it locks itself into, and its state. It gets all three in a mount
// namespace of its own; $1 is a passwd file, $2 a group file.
const openntpdPlace = `set -e
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/openntpd/run /var/lib/openntpd/db /var/lib/openntpd/chroot
chmod 755 /var/lib/openntpd /var/lib/openntpd/run /var/lib/openntpd/chroot
mount --bind "$1" /etc/passwd
mount --bind "$2" /etc/group
shift 2
exec "$@"`

// OpenNTPD starts openntpd on the host with these configuration lines. It binds no
// control socket outside its own mount namespace.
func OpenNTPD(t testing.TB, h *Host, conf string) *Process {
	t.Helper()
	daemon := Unpack(t, "openntpd", "usr/sbin/ntpd")
	user := func(file, lines string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return h.Write(filepath.Base(file), string(text)+lines)
	}
	passwd := user("/etc/passwd", "ntpd:x:64123:64123::/var/lib/openntpd/chroot:/bin/false\nopenntpd:x:64123:64123::/var/lib/openntpd/chroot:/bin/false\n")
	group := user("/etc/group", "ntpd:x:64123:\nopenntpd:x:64123:\n")
	for _, path := range []string{passwd, group} {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := h.Write("openntpd.conf", conf+"\n")
	argv := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", openntpdPlace, "sh", passwd, group}
	return h.Start("openntpd", daemon.Env(), append(argv, daemon.Path, "-d", "-v", "-f", path)...)
}

// timesyncdPlace gives timesyncd a configuration and a state of its own in a mount
// namespace: $1 is the configuration.
const timesyncdPlace = `set -e
conf=$(cat "$1")
mkdir -p /var/lib/systemd
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc/systemd
mount -t tmpfs -o mode=755,uid=64124 tmpfs /var/lib/systemd
mkdir -p /run/systemd && chown 64124 /run/systemd
printf '%s\n' "$conf" >/etc/systemd/timesyncd.conf
shift
exec "$@"`

// Timesyncd starts systemd-timesyncd on the host with those servers. As root it would
// insist on the clock, so it runs as nobody in particular.
func Timesyncd(t testing.TB, h *Host, servers ...string) *Process {
	t.Helper()
	daemon := Unpack(t, "systemd-timesyncd", "lib/systemd/systemd-timesyncd")
	conf := h.Write("timesyncd.conf", fmt.Sprintf("[Time]\nNTP=%s\nFallbackNTP=\nRootDistanceMaxSec=5\n", strings.Join(servers, " ")))
	env := append(daemon.Env(), "SYSTEMD_LOG_LEVEL=debug", "SYSTEMD_LOG_TARGET=console", "SYSTEMD_LOG_COLOR=0")
	argv := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", timesyncdPlace, "sh", conf,
		"setpriv", "--reuid", "64124", "--regid", "64124", "--clear-groups"}
	return h.Start("timesyncd", env, append(argv, daemon.Path)...)
}
