package interop

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"timeball/test/peers"
)

// supervisor hears what a daemon tells systemd (sd_notify(3)).
type supervisor struct {
	mu   sync.Mutex
	told map[string]int
}

// supervise opens a notification socket in the host's directory and gives the words by
// which a daemon is started that knows of it.
func supervise(t *testing.T, h *peers.Host) (s *supervisor, by []string) {
	t.Helper()
	path := filepath.Join(h.Dir, "notify.sock")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	s = &supervisor{told: map[string]int{}}
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		message := make([]byte, 4096)
		for {
			n, err := socket.Read(message)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.mu.Lock()
			for line := range strings.Lines(string(message[:max(n, 0)])) {
				s.told[strings.TrimSpace(line)]++
			}
			s.mu.Unlock()
		}
	}()
	return s, []string{"env", "NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=1000000"}
}

func (s *supervisor) times(word string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[word]
}

// hears waits until the daemon has said a word so many times.
func (s *supervisor) hears(t *testing.T, word string, times int) {
	t.Helper()
	peers.Eventually(t, 20*time.Second, "systemd hears "+word, func() error {
		if got := s.times(word); got < times {
			return fmt.Errorf("%d times so far, want %d", got, times)
		}
		return nil
	})
}

// The life of the service as systemd sees it: ready, alive, reloaded, stopped.
func TestTheServiceSaysHowItIs(t *testing.T) {
	t.Parallel()
	h := peers.NewLab(t).Host("host")
	systemd, by := supervise(t, h)
	d := peers.Timeball(t, h, serverConfig, by...)
	systemd.hears(t, "READY=1", 1)
	systemd.hears(t, "WATCHDOG=1", 3)
	serves(t, h, h.IPv4)

	d.Signal(syscall.SIGHUP)
	systemd.hears(t, "RELOADING=1", 1)
	systemd.hears(t, "READY=1", 2)

	took, err := d.Stop()
	if err != nil { // which it is where Stop's patience was over
		t.Errorf("end: got %v after %v, want a good end", err, took)
	}
	systemd.hears(t, "STOPPING=1", 1)
}

// A reload takes what is good, keeps what has not changed, and refuses a bad file whole.
func TestReload(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	first, second, client := lab.Host("first"), lab.Host("second"), lab.Host("client")
	peers.Chronyd(t, first, chronyServer)
	peers.Chronyd(t, second, chronyServer)
	d := peers.Timeball(t, client, quickSource(first.IPv4, "")+wrongClock)
	before := follows(t, d, 60*time.Second, first.IPv4)

	d.Configure("sources: [{server: here, min_poll: 99}]\n")
	d.Signal(syscall.SIGHUP)
	d.Says(time.Minute, "reload refused")
	if sources, err := d.Sources(); err != nil || len(sources) != 1 || sources[0].Samples < before.Samples {
		t.Errorf("after a bad reload: got %v, %v, want the source as it was: %v", sources, err, before)
	}

	both := fmt.Sprintf("sources: [{server: %q, min_poll: -2, max_poll: 0}, {server: %q, min_poll: -2, max_poll: 0}]\n", first.IPv4, second.IPv4)
	d.Reload(both + wrongClock)
	d.Has(60*time.Second, "the second source is there", func(s peers.Source) bool { return s.At(second.IPv4) })
	sources, err := d.Sources()
	for _, s := range sources {
		if s.At(first.IPv4) && s.Samples < before.Samples {
			t.Errorf("the first source after a good reload: got %v, %v, want it kept as it was: %v", s, err, before)
		}
	}
	d.Has(60*time.Second, "the second source is reached", func(s peers.Source) bool { return s.At(second.IPv4) && s.Reach == 255 && small(s.Offset) })
}

// Limits of an idle daemon with four sources at their ordinary polls.
const (
	idleMemory = 25 << 20 // bytes resident
	idleShare  = 0.001    // of one core that takes two milliseconds for a stint
)

// stint is the least time that a fixed piece of work takes here: how fast the processor is.
func stint() time.Duration {
	least := time.Hour
	for range 100 {
		begun, x := time.Now(), uint64(1)
		for range 1_000_000 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		if took := time.Since(begun); x != 0 {
			least = min(least, took)
		}
	}
	return least
}

func TestAnIdleDaemonIsSmallAndQuiet(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	client := lab.Host("client")
	var lines []string
	for i := range 4 {
		h := lab.Host(fmt.Sprintf("server%d", i))
		peers.Chronyd(t, h, chronyServer)
		lines = append(lines, fmt.Sprintf("  - server: %v", h.IPv4))
	}
	d := peers.Timeball(t, client, "sources:\n"+strings.Join(lines, "\n")+"\nserver: {}\nmetrics: {listen: 127.0.0.1:9123}\nclock: {driver: virtual}\n")
	d.Has(60*time.Second, "one is followed", func(s peers.Source) bool { return s.State == "selected" })
	// The first quick samples are no idling, and what others do on this machine costs
	// everybody: the quietest of the spans counts, and one that is quiet enough is the last.
	allowed, quietest := idleShare*max(1, stint().Seconds()/2e-3), 1.0
	for span := 0; span < 6 && quietest > allowed; span++ {
		before, began := d.Worked(), time.Now()
		time.Sleep(15 * time.Second)
		quietest = min(quietest, (d.Worked()-before).Seconds()/time.Since(began).Seconds())
	}
	t.Logf("memory: %.1f MiB; share of a core: %.4f %%", float64(d.Memory())/(1<<20), quietest*100)
	if got := d.Memory(); got > idleMemory {
		t.Errorf("memory: got %d bytes, want at most %d", got, idleMemory)
	}
	if quietest > allowed {
		t.Errorf("share of a core: got %.3f %%, want at most %.3f %%", quietest*100, allowed*100)
	}
}
