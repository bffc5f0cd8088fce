package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/test/peers"
)

// inode tells one socket from another that stands at its place later.
func inode(path string) uint64 {
	var s unix.Stat_t
	if unix.Stat(path, &s) != nil {
		return 0
	}
	return s.Ino
}

// A reload leaves the socket of a reference clock alone that it does not change: gpsd looks
// for it once, and would not find another one. Removed clocks take their socket away, and
// changed ones make theirs anew.
func TestReloadKeepsTheSocketsOfClocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	line := func(name, more string) string {
		return fmt.Sprintf("  - refclock: {driver: sock, device: %s, refid: %s%s}\n    min_poll: 0\n", path(name), strings.ToUpper(name), more)
	}
	const head = "clock: {driver: observe}\nsources:\n"
	p := start(t, head+line("kept", "")+line("gone", "")+line("new", ""))
	p.until("three sockets", func() bool { return inode(path("kept")) != 0 && inode(path("gone")) != 0 && inode(path("new")) != 0 })
	send(t, path("kept"), func() []byte { return sockMessage(time.Now(), 0, 0) })
	p.Has(patience, "the clock is read", func(s peers.Source) bool { return s.ReferenceID == "KEPT" && s.Samples > 2 })
	kept := inode(path("kept"))

	p.Reload(head + line("new", ", delay: 5ms, mode: 0666") + line("kept", "") + line("add", ""))
	p.until("the sockets of the new configuration", func() bool {
		info, err := os.Stat(path("new"))
		return inode(path("gone")) == 0 && inode(path("add")) != 0 && err == nil && info.Mode().Perm() == 0o666
	})
	if got := inode(path("kept")); got != kept {
		t.Errorf("the unchanged clock's socket is inode %d now, was %d", got, kept)
	}
	p.Has(patience, "the unchanged clock goes on", func(s peers.Source) bool { return s.ReferenceID == "KEPT" && s.Samples > 4 })
	sources, err := p.Sources()
	var ids []string
	for _, s := range sources {
		ids = append(ids, s.ReferenceID)
		if s.Mode != "reference-clock" {
			t.Errorf("%s: mode %s", s.ReferenceID, s.Mode)
		}
	}
	if slices.Sort(ids); err != nil || !slices.Equal(ids, []string{"ADD", "KEPT", "NEW"}) {
		t.Errorf("sources: %v, %v", ids, err)
	}
}

// A reference clock has its row, with its mode and id, before its first poll has ended. It
// is read and not asked: an operator is told so.
func TestAReferenceClockIsNotAsked(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "gps.sock")
	p := start(t, fmt.Sprintf("clock: {driver: observe}\nsources: [{refclock: {driver: sock, device: %s, refid: GPS}, min_poll: 10}]\n", socket))
	row := p.Has(patience, "its row", func(s peers.Source) bool { return s.Name != "" })
	if row.Mode != "reference-clock" || row.ReferenceID != "GPS" {
		t.Errorf("before its first poll: %v", row)
	}
	for _, command := range []string{"offline", "online", "burst"} {
		for _, source := range [][]string{{"refclock sock " + socket}, nil} {
			_, complaint, err := p.operate(append([]string{command}, source...)...)
			if err == nil || !strings.Contains(complaint, "read and not asked") {
				t.Errorf("%s %v: got %v, %q", command, source, err, complaint)
			}
		}
	}
}

// What cannot work is refused by check; what is missing on this machine is found by its
// --probe, also where there is no server to be asked.
func TestCheckLooksAtReferenceClocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := peers.Here(t)
	check := func(clocks string, flags ...string) (string, error) {
		file := h.Write("check.yaml", "sources: ["+clocks+"]\n")
		out, complaints, err := h.Run(nil, append([]string{peers.Binary(t), "check", "--config", file}, flags...)...)
		return out + complaints, err
	}
	long := filepath.Join(dir, strings.Repeat("x", 110))
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	for clock, want := range map[string]string{
		"{refclock: {driver: sock, device: " + long + "}}":                                          "too long for a Unix socket",
		"{refclock: {driver: nmea, device: /dev/ttyS0, baud: 12345}}":                               "12345 is no speed",
		"{refclock: {driver: shm, refid: A}, no_select: true}, {refclock: {driver: shm, refid: A}}": "is the same as",
	} {
		if out, err := check(clock); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: got %v, %s; want it refused: %s", clock, err, out, want)
		}
	}
	for clock, want := range map[string]string{
		"{refclock: {driver: sock, device: " + dir + "}}":               "is no socket",
		"{refclock: {driver: sock, device: " + link + "}}":              "is no socket",
		"{refclock: {driver: sock, device: " + dir + "/none/gps.sock}}": "make the folder",
		"{refclock: {driver: phc, device: nosuch0}}":                    "nosuch0",
		"{refclock: {driver: phc, device: lo}}":                         "interface lo has none",
		"{refclock: {driver: pps, device: /dev/null}}":                  "no PPS device",
		"{refclock: {driver: nmea, device: " + dir + "}}":               "no serial line",
		"{refclock: {driver: shm, unit: 251}}":                          "nobody has made the segment",
	} {
		if out, err := check(clock, "--probe"); err == nil || !strings.Contains(out, want) || !strings.Contains(out, "no reference clock's device can be read") {
			t.Errorf("%s: got %v, %s; want %s", clock, err, out, want)
		}
	}
	if out, err := check("{refclock: {driver: sock, device: "+dir+"/gps.sock}}", "--probe"); err != nil || !strings.Contains(out, "its device can be read") {
		t.Errorf("a socket that can be made: got %v, %s", err, out)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("check has left something behind: %v", left)
	}
}

// Shared memory that anybody may write is believed from unit 2 up, as gpsd makes it so, and
// the operator is told. One that is too small, or is removed and made again, is said and
// followed.
func TestSharedMemoryOfOthers(t *testing.T) {
	t.Parallel()
	const unit, key = 247, 0x4e545030 + 247
	if id, err := unix.SysvShmGet(key, 0, 0); err == nil { // of a test that was killed
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
	id := 0
	remove := func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) }
	makeOne := func(size, mode int) {
		var err error
		if id, err = unix.SysvShmGet(key, size, unix.IPC_CREAT|unix.IPC_EXCL|mode); err != nil {
			t.Skip("no shared memory here: ", err)
		}
	}
	t.Cleanup(func() { remove() })
	makeOne(48, 0o600)
	conf := fmt.Sprintf("clock: {driver: observe}\nsources: [{refclock: {driver: shm, unit: %d}, min_poll: 0}]\n", unit)
	p := start(t, conf)
	p.Says(patience, "smaller than 96 bytes")
	remove()
	makeOne(4096, 0o666)
	const words = "may be written by everybody on this machine"
	p.Says(patience, words)
	if _, complaints, err := p.Run("check", "--config", p.Host.Write("check.yaml", conf)); err != nil || !strings.Contains(complaints, words) {
		t.Errorf("check: got %v, %q, want it to say %q", err, complaints, words)
	}
	remove()
	p.Says(patience, "the shared memory was removed")
	p.until("it is made anew, for nobody else", func() bool {
		next, err := unix.SysvShmGet(key, 96, 0)
		if err != nil {
			return false
		}
		id = next
		var d unix.SysvShmDesc
		_, err = unix.SysvShmCtl(id, unix.IPC_STAT, &d)
		return err == nil && d.Perm.Mode&0o777 == 0o600
	})
}

// A serial line at a wrong speed brings noise: explain names the speed, and not the fix. A
// receiver whose sentences have no fix is told from it, also among its maker's own.
func TestWhatComesOnASerialLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"noise", strings.Repeat("\xfe\x00\x80$\xf8\r\x1c", 50), "has the line the receiver's speed"},
		{"no fix", peers.Sentence("GPRMC,120000,V,,,,,,,281126,,,N") + peers.Sentence("PUBX,04,073731.00,091202"), "no fix"},
		{"makers' own", peers.Sentence("PGRMC,A,218.8,100,6378137.000") + peers.Sentence("GPGSV,1,1,00"), "has the receiver a fix"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			line, name := peers.SerialLine(t)
			d := start(t, fmt.Sprintf("clock: {driver: observe}\nsources: [{refclock: {driver: nmea, device: %s}, min_poll: 0}]\n", name))
			end := make(chan struct{})
			t.Cleanup(func() { close(end) })
			go func() {
				for {
					select {
					case <-end:
						return
					case <-time.After(100 * time.Millisecond):
					}
					if _, err := line.WriteString(test.text); err != nil {
						return
					}
				}
			}()
			peers.Eventually(t, patience, "explain says why", func() error {
				text, complaint, err := d.operate("explain")
				if err == nil && !strings.Contains(strings.Join(strings.Fields(text), " "), test.want) {
					err = fmt.Errorf("it says %s", text)
				}
				if err != nil {
					return fmt.Errorf("%w %s", err, complaint)
				}
				return nil
			})
		})
	}
}
