package interop

import (
	"fmt"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// modesOf are the modes of the packets from a host, each where it first occurs.
func modesOf(capture *peers.Capture, from *peers.Host) []wire.Mode {
	var modes []wire.Mode
	seen := map[wire.Mode]bool{}
	for _, p := range capture.Packets() {
		if a := p.From.Addr(); (a != from.IPv4 && a != from.IPv6) || len(p.Payload) < wire.HeaderSize {
			continue
		}
		if _, mode := wire.Peek(p.Payload); !seen[mode] {
			seen[mode] = true
			modes = append(modes, mode)
		}
	}
	return modes
}

// sends fails the test unless the host sent exactly these modes, first come in this order.
func sends(t *testing.T, capture *peers.Capture, from *peers.Host, want ...wire.Mode) {
	t.Helper()
	if got := modesOf(capture, from); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("modes that %s sends: got %v, want %v", from.Name, got, want)
	}
}

// chronyd is active and has no other source: the passive timeball sets it.
func TestChronydActiveFollowsTimeballPassive(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	ours, theirs := lab.Host("ours"), lab.Host("theirs")
	peers.Timeball(t, ours, serverConfig+"symmetric: {passive: true, unauthenticated: true}\n")
	serves(t, theirs, ours.IPv4)
	capture := peers.Listen(t, theirs)
	c := peers.Chronyd(t, theirs, fmt.Sprintf("peer %v minpoll 0 maxpoll 0\nallow all", ours.IPv4))
	row := c.Selects(60*time.Second, ours.IPv4.String())
	if row.Mode != "=" || row.Stratum != 3 {
		t.Errorf("timeball as chronyd sees it: got %+v, want a peer of stratum 3", row)
	}
	sends(t, capture, ours, wire.ModePassive)
}

// chronyd is active and has the time: the passive timeball mobilizes an association and
// follows it.
func TestTimeballPassiveFollowsChronydActive(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	ours, theirs, monitor := lab.Host("ours"), lab.Host("theirs"), lab.Host("monitor")
	d := peers.Timeball(t, ours, "server: {}\nsymmetric: {passive: true, unauthenticated: true}\n"+wrongClock)
	peers.Chronyd(t, theirs, fmt.Sprintf("peer %v minpoll 0 maxpoll 0\n%s", ours.IPv4, chronyServer))
	row := follows(t, d, 120*time.Second, theirs.IPv4)
	if row.Mode != "passive" || row.Stratum != 3 {
		t.Errorf("chronyd as timeball sees it: got %v, want passive, stratum 3", row)
	}
	trueError(t, monitor, ours.IPv4)
}

// timeball is active: it begins with an exchange of modes 3 and 4, then sends mode 1;
// chronyd answers that by mode 2, without an association of its own.
func TestTimeballActiveFollowsChronyd(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	ours, theirs, monitor := lab.Host("ours"), lab.Host("theirs"), lab.Host("monitor")
	peers.Chronyd(t, theirs, chronyServer)
	capture := peers.Listen(t, ours)
	config := fmt.Sprintf("sources: [{peer: %v, unauthenticated: true, min_poll: 0, max_poll: 0}]\nserver: {}\n", theirs.IPv4)
	d := peers.Timeball(t, ours, config+wrongClock)
	row := follows(t, d, 120*time.Second, theirs.IPv4)
	if row.Mode != "active" || row.Stratum != 3 {
		t.Errorf("chronyd as timeball sees it: got %v, want active, stratum 3", row)
	}
	sends(t, capture, ours, wire.ModeClient, wire.ModeActive)
	sends(t, capture, theirs, wire.ModeServer, wire.ModePassive)
	trueError(t, monitor, ours.IPv4)
}

// Both are active, with a key: the one that has the time sets the other.
func TestTimeballAndChronydAreBothActive(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	ours, theirs := lab.Host("ours"), lab.Host("theirs")
	key := keyKinds[3]
	config := fmt.Sprintf("sources: [{peer: %v, key: 7, min_poll: 0, max_poll: 0}]\nserver: {}\n%s", theirs.IPv4, key.ours())
	d := peers.Timeball(t, ours, config+wrongClock)
	conf := fmt.Sprintf("keyfile %s\npeer %v minpoll 0 maxpoll 0 key 7\n%s",
		peers.ChronyKeys(theirs, key.chrony()), ours.IPv4, chronyServer)
	c := peers.Chronyd(t, theirs, conf)
	row := follows(t, d, 120*time.Second, theirs.IPv4)
	if row.Mode != "active" {
		t.Errorf("chronyd as timeball sees it: got %v, want active", row)
	}
	peers.Eventually(t, 60*time.Second, "chronyd reaches timeball", func() error {
		sources, err := c.Sources()
		if err != nil || len(sources) != 1 || sources[0].Reach == 0 {
			return fmt.Errorf("its sources: %+v, %v", sources, err)
		}
		return nil
	})
}

// A stranger's mode 1 packet mobilizes nothing where no key proves it.
func TestAStrangerMobilizesNothing(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	ours, theirs := lab.Host("ours"), lab.Host("theirs")
	d := peers.Timeball(t, ours, serverConfig+"symmetric: {passive: true, keys: [7]}\n"+keyKinds[3].ours())
	serves(t, theirs, ours.IPv4)
	capture := peers.Listen(t, ours)
	peers.Chronyd(t, theirs, fmt.Sprintf("peer %v minpoll 0 maxpoll 0\n%s", ours.IPv4, chronyServer))
	peers.Eventually(t, 30*time.Second, "chronyd sends mode 1 five times", func() error {
		active := 0
		for _, p := range capture.Packets() {
			if _, mode := wire.Peek(p.Payload); mode == wire.ModeActive {
				active++
			}
		}
		if active < 5 {
			return fmt.Errorf("%d so far", active)
		}
		return nil
	})
	sources, err := d.Sources()
	if err != nil || len(sources) != 0 {
		t.Errorf("sources: got %v, %v, want none", sources, err)
	}
}
