package peers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Receiver is a satellite receiver that tells the time over TCP, as some do over a serial
// line: a burst of NMEA 0183 behind every second.
type Receiver struct {
	Address string
	late    atomic.Int64 // ns behind the second
	off     atomic.Int64 // ns that it tells the time wrong by
	fix     atomic.Bool
}

// Receive starts a receiver on a host, late by so much. It ends with the test.
func Receive(t testing.TB, h *Host, late time.Duration) *Receiver {
	t.Helper()
	r := &Receiver{}
	r.late.Store(int64(late))
	r.fix.Store(true)
	var l net.Listener
	err := h.Inside(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r.Address = l.Addr().String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.talk(conn)
		}
	}()
	return r
}

// Jump makes the receiver tell another time from now on.
func (r *Receiver) Jump(by time.Duration) { r.off.Add(int64(by)) }

// Fix says whether the receiver has a fix.
func (r *Receiver) Fix(there bool) { r.fix.Store(there) }

// talk sends a burst every second until the other side goes away.
func (r *Receiver) talk(conn net.Conn) {
	defer conn.Close()
	for {
		second := time.Now().Truncate(time.Second).Add(time.Second)
		time.Sleep(time.Until(second.Add(time.Duration(r.late.Load()))))
		if _, err := conn.Write([]byte(r.burst(second.Add(time.Duration(r.off.Load())).UTC()))); err != nil {
			return
		}
	}
}

func (r *Receiver) burst(at time.Time) string {
	status, quality, mode := "A", "1", "3"
	if !r.fix.Load() {
		status, quality, mode = "V", "0", "1"
	}
	clock, date := at.Format("150405.00"), at.Format("020106")
	return Sentence("GPRMC,"+clock+","+status+",4807.038,N,01131.000,E,000.0,000.0,"+date+",,,A") +
		Sentence("GPGGA,"+clock+",4807.038,N,01131.000,E,"+quality+",08,0.9,545.4,M,46.9,M,,") +
		Sentence("GPGSA,A,"+mode+",01,02,03,04,05,06,07,08,,,,,1.5,0.9,1.2") +
		Sentence("GPZDA,"+clock+","+at.Format("02,01,2006")+",00,00")
}

// Sentence puts NMEA's frame and checksum round a text.
func Sentence(text string) string {
	sum := byte(0)
	for i := range len(text) {
		sum ^= text[i]
	}
	return fmt.Sprintf("$%s*%02X\r\n", text, sum)
}

// Gpsd starts gpsd on a host in an IPC namespace of its own, where it reads the receiver;
// by puts a program into that namespace, as Timeball takes it. When gpsd ends it begins
// anew after a pause; stop ends it.
func Gpsd(t testing.TB, h *Host, r *Receiver, pause time.Duration) (by []string, stop func()) {
	t.Helper()
	p := Unpack(t, "gpsd", "usr/sbin/gpsd")
	pid := filepath.Join(h.Dir, "gpsd.pid")
	script := fmt.Sprintf(`trap 'kill $!; exit 0' TERM
while :; do %s -N -n tcp://%s & echo $! >%s; wait $!; sleep %g & wait $!; done`, p.Path, r.Address, pid, pause.Seconds())
	holder := h.Start("gpsd", p.Env(), "unshare", "--ipc", "sh", "-c", script)
	Eventually(t, 10*time.Second, "gpsd runs", func() error {
		_, err := os.Stat(pid)
		return err
	})
	return []string{"nsenter", fmt.Sprintf("--ipc=/proc/%d/ns/ipc", holder.Pid())}, func() { endGpsd(t, pid) }
}

// Gpsd13 starts Debian 13's gpsd on a host, in mount and IPC namespaces of its own, where
// /run is empty: it looks there for a socket of chrony's kind each time it opens the
// receiver, which it first does when socket, a path in that /run, is there. by puts a program
// into the namespaces, as Timeball takes it. When gpsd ends it begins anew after a pause;
// stop ends it.
func Gpsd13(t testing.TB, h *Host, r *Receiver, pause time.Duration) (socket string, by []string, stop func()) {
	t.Helper()
	argv := UnpackNewer(t, "usr/sbin/gpsd", "gpsd", "libc6", "libusb-1.0-0", "libbluetooth3", "libdbus-1-3", "libudev1", "libcap2", "libsystemd0").
		Argv("-N", "-n", "tcp://"+r.Address)
	socket = "/run/chrony.clk." + r.Address + ".sock"
	pid, inside := filepath.Join(h.Dir, "gpsd.pid"), filepath.Join(h.Dir, "inside")
	script := fmt.Sprintf(`trap 'kill $!; exit 0' TERM
mount -t tmpfs none /run && touch %s
until [ -S %s ]; do sleep 0.1 & wait $!; done
while :; do %s & echo $! >%s; wait $!; sleep %g & wait $!; done`, inside, socket, strings.Join(argv, " "), pid, pause.Seconds())
	holder := h.Start("gpsd 3.25", nil, "unshare", "--ipc", "--mount", "sh", "-c", script)
	Eventually(t, 10*time.Second, "an empty /run", func() error {
		_, err := os.Stat(inside)
		return err
	})
	of := fmt.Sprintf("/proc/%d/ns/", holder.Pid())
	return socket, []string{"nsenter", "--ipc=" + of + "ipc", "--mount=" + of + "mnt", "--wd=" + h.Dir}, func() { endGpsd(t, pid) }
}

// endGpsd ends the gpsd whose process id stands in a file.
func endGpsd(t testing.TB, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(number, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// SerialLine makes a pseudo terminal: what is written into it is read from the device of
// that name.
func SerialLine(t testing.TB) (line *os.File, name string) {
	t.Helper()
	line, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	t.Cleanup(func() { _ = line.Close() })
	number, err := unix.IoctlGetInt(int(line.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(line.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	return line, fmt.Sprintf("/dev/pts/%d", number)
}
