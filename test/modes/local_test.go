package modes

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// served waits until a daemon, asked from another host, answers as wanted.
func served(t *testing.T, from *peers.Host, server netip.Addr, what string, wanted func(*wire.Header) bool) wire.Header {
	t.Helper()
	p := newProbe(t, from, server)
	var last reading
	peers.Eventually(t, 60*time.Second, fmt.Sprintf("%v serves %s", server, what), func() (err error) {
		if last, err = p.once(); err != nil {
			return err
		}
		if !wanted(&last.Header) {
			return fmt.Errorf("it says %+v", last.Header)
		}
		return nil
	})
	return last.Header
}

// The local clock as reference is served with the id that others give it, and a client
// of chrony's follows it.
func TestTheLocalClockIsServedAsOthersExpect(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, local string
		stratum     uint8
		id          string
	}{
		{"as chrony does", "local: {stratum: 10}\n", 10, "127.127.1.1"},
		{"of stratum 1", "local: {stratum: 1}\n", 1, "LOCL"},
		{"as an orphan", "local: {stratum: 5, orphan: true}\n", 5, "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			peers.Timeball(t, server, tt.local+"server: {}\nclock: {driver: observe}\n")
			h := served(t, client, server.IPv4, "its own time", func(h *wire.Header) bool { return h.Leap == wire.LeapNone })
			if h.Stratum != tt.stratum || h.ReferenceID.Format(h.Stratum) != tt.id {
				t.Errorf("stratum and reference id: got %d, %s, want %d, %s", h.Stratum, h.ReferenceID.Format(h.Stratum), tt.stratum, tt.id)
			}
			if h.ReferenceTime == 0 || h.Receive.Sub(h.ReferenceTime) < 0 || h.RootDispersion > 1<<16 {
				t.Errorf("reference time, receive and root dispersion: got %v, %v, %v, want them in order and small", h.ReferenceTime, h.Receive, h.RootDispersion)
			}
			c := peers.Chronyd(t, client, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst", server.IPv4))
			if row := c.Selects(time.Minute, server.IPv4.String()); row.Stratum != int(tt.stratum) {
				t.Errorf("as chronyd sees it: got %+v, want stratum %d", row, tt.stratum)
			}
		})
	}
}

// The local clock takes over after `activate` without a source, and steps back when
// there is one again.
func TestTheLocalClockServesWhileTheSourceIsLost(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	upper, server, client := lab.Host("upper"), lab.Host("server"), lab.Host("client")
	const upperConfig = "local: {stratum: 2}\nserver: {}\nclock: {driver: observe}\n"
	u := peers.Timeball(t, upper, upperConfig)
	peers.Timeball(t, server, fmt.Sprintf("sources: [{server: %v, min_poll: -2, max_poll: -2}]\nserver: {}\nlocal: {stratum: 8, activate: 3s}\n%s", upper.IPv4, wrongClock))
	is := func(stratum uint8, id string) func(*wire.Header) bool {
		return func(h *wire.Header) bool {
			return h.Leap == wire.LeapNone && h.Stratum == stratum && h.ReferenceID.Format(stratum) == id
		}
	}
	from := upper.IPv4.String()
	served(t, client, server.IPv4, "the source's time", is(3, from))
	u.Stop()
	served(t, client, server.IPv4, "its own time", is(8, "127.127.1.1"))
	again := peers.Timeball(t, upper, upperConfig)
	served(t, client, server.IPv4, "the source's time again", is(3, from))
	if ended, err := again.Ended(); ended {
		t.Errorf("the source: got its end, %v", err)
	}
}

// Several orphans that ask one another elect one, the others follow it, and when it is
// gone they elect another.
func TestOrphansElectOne(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	hosts := []*peers.Host{lab.Host("one"), lab.Host("two"), lab.Host("three")}
	var daemons []*peers.Daemon
	for i, h := range hosts {
		var lines []string
		for _, other := range hosts {
			if other != h {
				lines = append(lines, fmt.Sprintf("{server: %v, min_poll: -1, max_poll: -1}", other.IPv4))
			}
		}
		daemons = append(daemons, peers.Timeball(t, h, fmt.Sprintf("sources: [%s]\nserver: {}\nlocal: {stratum: 6, orphan: true}\n"+
			"clock: {driver: virtual, virtual: {offset: %dms}}\n", strings.Join(lines, ", "), 20*i)))
	}
	elected := agreeOnOne(t, daemons)
	daemons[elected].Stop()
	left := append(append([]*peers.Daemon{}, daemons[:elected]...), daemons[elected+1:]...)
	agreeOnOne(t, left)
}

// agreeOnOne waits until, for some seconds on end, one orphan serves its own time and
// all others follow it; it says which.
func agreeOnOne(t *testing.T, daemons []*peers.Daemon) (elected int) {
	t.Helper()
	look := func() error {
		elected = -1
		var all []peers.Tracking
		for i, d := range daemons {
			s, err := d.Tracking()
			if err != nil {
				return err
			}
			if all = append(all, s); s.Stratum == 6 && elected < 0 {
				elected = i
			}
		}
		if elected < 0 {
			return fmt.Errorf("none serves its own time: %+v", all)
		}
		for i, s := range all {
			if i != elected && (s.Stratum != 7 || s.ReferenceID != daemons[elected].Host.IPv4.String()) {
				return fmt.Errorf("%s does not follow %s: %+v", daemons[i].Host.Name, daemons[elected].Host.Name, all)
			}
		}
		return nil
	}
	peers.Eventually(t, 90*time.Second, "the orphans agree on one", func() error {
		if err := look(); err != nil {
			return err
		}
		chosen := elected
		err := within(5*time.Second, look)
		if err == nil && elected != chosen {
			return fmt.Errorf("they changed from %d to %d", chosen, elected)
		}
		return err
	})
	return elected
}
