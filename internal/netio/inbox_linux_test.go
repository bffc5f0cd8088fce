package netio

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newTestInbox gives an inbox on a loopback address, and that address.
func newTestInbox(t *testing.T) (*inbox, netip.AddrPort) {
	t.Helper()
	conn, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), func(fd int) error {
		return setOptions(fd, []option{timestampingOption(reportSoftware)})
	})
	if err != nil {
		t.Fatal(err)
	}
	at := boundTo(conn)
	in, err := newInbox(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return in, at
}

// events is what the runtime's poller would see of an inbox within that time.
func events(t *testing.T, in *inbox, within time.Duration) int16 {
	t.Helper()
	var seen int16
	if err := onDescriptor(in.ready, func(fd int) error {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
		_, err := unix.Poll(fds, int(within.Milliseconds()))
		seen = fds[0].Revents
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestOnlyWhatComesInWakesAServer(t *testing.T) {
	in, at := newTestInbox(t)
	send := func(controls []byte) {
		t.Helper()
		if err := onDescriptor(in.socket, func(fd int) error {
			return sendDatagram(fd, message(1), controls, sockaddr(netip.MustParseAddrPort("127.0.0.1:9"), 0))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.file.SetReadDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
		t.Errorf("got %v from a deadline, want %v: the runtime's poller must not know the socket", err, os.ErrNoDeadline)
	}
	if got := events(t, in, 0); got != 0 {
		t.Errorf("at first: got events %#x, want none", got)
	}
	send(nil)
	if got := events(t, in, 0); got != 0 {
		t.Errorf("after sending: got events %#x, want none", got)
	}
	var room [controlSpace]byte
	send(appendTimestamping(room[:0], askSoftware))
	if got := events(t, in, patience); got != unix.POLLIN {
		t.Errorf("with a transmit timestamp in the error queue: got events %#x, want %#x and nothing that counts as an error", got, unix.POLLIN)
	}
	errs := newReceiveBatch(errorData)
	if err := onDescriptor(in.socket, func(fd int) error {
		_, errno := errs.receive(uintptr(fd), unix.MSG_ERRQUEUE)
		if errno != 0 {
			return errno
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := events(t, in, 0); got != 0 {
		t.Errorf("the timestamp taken: got events %#x, want none", got)
	}
	flood(t, at, 1)
	if got := events(t, in, patience); got != unix.POLLIN {
		t.Errorf("with a datagram: got events %#x, want %#x", got, unix.POLLIN)
	}
}

func TestClosingAnInboxEndsTheWaiting(t *testing.T) {
	in, _ := newTestInbox(t)
	ended, waiting := make(chan error), make(chan bool, 1)
	go func() {
		ended <- in.ready.Read(func(uintptr) bool {
			select {
			case waiting <- true:
			default:
			}
			return false
		})
	}()
	<-waiting
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("got no error from waiting for what is closed")
		}
	case <-time.After(patience):
		t.Fatal("still waiting after the close")
	}
}

func TestInboxOfAClosedSocket(t *testing.T) {
	conn, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), func(int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if in, err := newInbox(conn); in != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, %v; want %v", in, err, net.ErrClosed)
	}
}
