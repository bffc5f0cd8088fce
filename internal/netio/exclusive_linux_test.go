package netio

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
)

// secondProcess names the variable that makes the test binary a second process: it
// holds what to do there.
const secondProcess = "NETIO_SECOND_PROCESS"

func TestMain(m *testing.M) {
	if task := os.Getenv(secondProcess); task != "" {
		beSecondProcess(task)
		return
	}
	timestampingBegins()
	os.Exit(m.Run())
}

// timestampingBegins waits until the kernel timestamps what arrives.
func timestampingBegins() {
	keepTimestamping()
	p, err := Listen(loopback())
	if err != nil {
		panic(err)
	}
	defer func() { _ = p.Close() }()
	timestamps := make(chan model.TimestampKind)
	go func() {
		_ = p.Serve(0, handlerFunc(func(rx *model.Received, _ []byte) int {
			timestamps <- rx.Timestamp
			return 0
		}))
	}()
	for timestamp := model.TimestampDaemon; timestamp == model.TimestampDaemon; timestamp = <-timestamps {
		if _, err := p.Send(message(1), p.LocalAddr(), netip.Addr{}, 0, Token{}); err != nil {
			panic(err)
		}
	}
}

// beSecondProcess does "listen ADDRESS WORKERS" or "reuseport ADDRESS" and prints
// whether it got the port. With "hold" before, it waits for a line on standard input
// first and keeps the port until the next.
func beSecondProcess(task string) {
	words := strings.Fields(task)
	stdin := bufio.NewReader(os.Stdin)
	hold := words[0] == "hold"
	if hold {
		words = words[1:]
		fmt.Println("ready")
		_, _ = stdin.ReadString('\n')
	}
	var err error
	switch words[0] {
	case "listen":
		err = listenSecond(words[1], words[2])
	case "reuseport":
		err = reusePortSecond(words[1])
	}
	switch {
	case err == nil:
		fmt.Println("bound")
	case errors.Is(err, ErrInUse), errors.Is(err, unix.EADDRINUSE):
		fmt.Println("in use")
	default:
		fmt.Println("error:", err)
	}
	if hold {
		_, _ = stdin.ReadString('\n')
	}
}

// kept keeps the sockets of a second process from being collected.
var kept []any

func listenSecond(address, workers string) error {
	port, everywhere := strings.CutPrefix(address, ":")
	if everywhere {
		address = "0.0.0.0:" + port
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if everywhere {
		at = netip.AddrPortFrom(netip.Addr{}, at.Port())
	}
	n, err := strconv.Atoi(workers)
	if err != nil {
		return err
	}
	p, err := Listen(ListenConfig{Address: at, Workers: n})
	kept = append(kept, p)
	return err
}

// reusePortSecond does what a program would that wants to join in.
func reusePortSecond(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	conn, err := listen(at, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	kept = append(kept, conn)
	return err
}

func runSecond(t *testing.T, format string, args ...any) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), secondProcess+"="+fmt.Sprintf(format, args...), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestAnotherProcessDoesNotGetThePort(t *testing.T) {
	for _, workers := range []int{1, 2, 4, 12} {
		p := listenAt(t, ListenConfig{Workers: workers}, echo)
		port := p.LocalAddr().Port()
		for _, task := range []string{
			fmt.Sprintf("listen :%d 1", port),
			fmt.Sprintf("listen :%d 4", port),
			fmt.Sprintf("listen 127.0.0.1:%d 2", port),
			fmt.Sprintf("listen [::1]:%d 2", port),
			fmt.Sprintf("reuseport 0.0.0.0:%d", port),
			fmt.Sprintf("reuseport 127.0.0.1:%d", port),
			fmt.Sprintf("reuseport [::]:%d", port),
			fmt.Sprintf("reuseport [::1]:%d", port),
		} {
			if got := runSecond(t, "%s", task); got != "in use" {
				t.Errorf("%d workers, second process, %s: got %q, want in use", workers, task, got)
			}
		}
	}
}

// The same of one address, which has guards of its own kind for IPv6; other addresses
// stay free.
func TestAnotherProcessDoesNotGetOneAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		for _, workers := range []int{1, 2, 4, 12} {
			p := listenAt(t, ListenConfig{Address: netip.AddrPortFrom(netip.MustParseAddr(address), 0), Workers: workers}, echo)
			for _, task := range []string{"listen %s 1", "listen %s 3", "reuseport %s"} {
				if got := runSecond(t, task, p.LocalAddr()); got != "in use" {
					t.Errorf("%d workers, second process, %s: got %q, want in use", workers, fmt.Sprintf(task, p.LocalAddr()), got)
				}
			}
			for _, other := range []string{"127.61.8.2", "::ffff:127.61.8.3"} { // where no other test listens
				if got := runSecond(t, "listen %s 2", netip.AddrPortFrom(netip.MustParseAddr(other).Unmap(), p.LocalAddr().Port())); got != "bound" {
					t.Errorf("%s with %d workers, second process at %s: got %q, want bound", address, workers, other, got)
				}
			}
		}
	}
}

func TestASecondPortOfThisProcessIsRefusedToo(t *testing.T) {
	cfg := loopback()
	cfg.Workers = 2
	p := listenAt(t, cfg, echo)
	cfg.Address = p.LocalAddr()
	if second, err := Listen(cfg); !errors.Is(err, ErrInUse) {
		t.Errorf("second listen: %v, %v; want ErrInUse", second, err)
	}
}

func TestOnlyOneOfProcessesThatStartTogetherGetsThePort(t *testing.T) {
	address := nobodysPort(t)
	const processes = 6
	var outs [processes]*bufio.Reader
	var ins [processes]interface{ Write([]byte) (int, error) }
	for i := range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=hold listen %s 3", secondProcess, address), "GORACE=atexit_sleep_ms=0")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		outs[i], ins[i] = bufio.NewReader(out), in
		t.Cleanup(func() {
			_ = in.Close()
			_ = cmd.Wait()
		})
		readLine(t, outs[i])
	}
	for i := range processes {
		if _, err := ins[i].Write([]byte("go\n")); err != nil {
			t.Fatal(err)
		}
	}
	bound := 0
	for i := range processes {
		switch line := readLine(t, outs[i]); line {
		case "bound":
			bound++
		case "in use":
		default:
			t.Errorf("process %d: %s", i, line)
		}
	}
	if bound != 1 {
		t.Errorf("%d processes have the port, want 1", bound)
	}
}

func readLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestWorkersShareTheLoadOfOnePort(t *testing.T) {
	for _, tt := range []struct{ address, listen string }{{"127.0.0.1", ""}, {"::1", ""}, {"127.0.0.1", "127.0.0.1:0"}, {"::1", "[::1]:0"}} {
		const workers, clients = 4, 200
		cfg := ListenConfig{Workers: workers}
		if tt.listen != "" {
			cfg.Address = netip.MustParseAddrPort(tt.listen)
		}
		p, err := Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var seen [2 * workers]atomic.Int64
		var serving sync.WaitGroup
		for i := range p.Workers() {
			serving.Go(func() {
				_ = p.Serve(i, handlerFunc(func(rx *model.Received, reply []byte) int {
					seen[i].Add(1)
					return copy(reply, rx.Data)
				}))
			})
		}
		for i := range clients {
			c := clientOf(t, ClientConfig{Remote: netip.AddrPortFrom(netip.MustParseAddr(tt.address), p.LocalAddr().Port())})
			if _, err := c.Send(message(uint64(i))); err != nil {
				t.Fatal(err)
			}
			readPacket(t, c)
		}
		used := 0
		for i := range seen {
			if seen[i].Load() > 0 {
				used++
			}
		}
		// Each of 4 is missed by 200 random ports with a probability of 10^-25.
		if used != workers {
			t.Errorf("%+v: %d sockets got requests, want %d", tt, used, workers)
		}
		if err := p.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		serving.Wait()
	}
}
