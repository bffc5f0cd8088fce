package modes

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"timeball/test/peers"
)

// unitRights is how the service starts: no right but that to its port (and to the clock,
// which no test has). A send buffer beyond the system's limit takes another one.
var unitRights = []string{"setpriv", "--bounding-set", "-all,+net_bind_service", "--inh-caps", "-all,+net_bind_service"}

// Replies to addresses of the link that nobody answers for wait in the kernel's neighbour
// table, and fill the send buffer of the socket meanwhile: requests in the names of unused
// addresses must not silence the server for others, nor for its peers.
func TestUnresolvedNeighboursDoNotSilenceTheServer(t *testing.T) {
	t.Parallel()
	const during, per = 20 * time.Second, 300
	for _, tt := range []struct {
		family          string
		addresses, rate int
	}{{"IPv4", 1, per}, {"IPv4", 20, per}, {"IPv4", 20, 20 * per}, {"IPv6", 20, 5 * per}} {
		t.Run(fmt.Sprintf("%s, %d addresses, %d a second", tt.family, tt.addresses, tt.rate), func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client, attacker := lab.Host("server"), lab.Host("client"), lab.Host("attacker")
			d := peers.Timeball(t, server, reference+"server: {workers: 1}\n", unitRights...)
			d.Says(time.Minute, "timeball runs")
			to := netip.AddrPortFrom(server.IPv4, 123)
			if tt.family == "IPv6" {
				to = netip.AddrPortFrom(server.IPv6, 123)
			}
			if err := askedAt(client, to); err != nil {
				t.Fatal(err)
			}
			forger := peers.Forge(t, attacker)
			stop, sent := make(chan struct{}), make(chan int)
			go func() { // ends with stop
				ticker := time.NewTicker(10 * time.Millisecond)
				defer ticker.Stop()
				n, good, begun := 0, 0, time.Now()
				for {
					// As many as are due: a busy machine may have let ticks pass.
					for range min(int(time.Since(begun).Seconds()*float64(tt.rate))-n, max(tt.rate/10, 1)) {
						unused := to.Addr().AsSlice()
						unused[len(unused)-1] = byte(100 + n%tt.addresses)
						from, _ := netip.AddrFromSlice(unused)
						request := make([]byte, 48)
						request[0], request[40], request[47] = 4<<3|3, 0xe9, byte(n)
						if forger.Send(netip.AddrPortFrom(from, uint16(1024+n%60000)), to, request) == nil {
							good++
						}
						n++
					}
					select {
					case <-stop:
						sent <- good
						return
					case <-ticker.C:
					}
				}
			}()
			asked, lost := 0, 0
			ticker := time.NewTicker(100 * time.Millisecond)
			defer ticker.Stop()
			for begun := time.Now(); time.Since(begun) < during; <-ticker.C {
				asked++
				if err := askedAt(client, to); err != nil {
					lost++
				}
			}
			close(stop)
			forged := <-sent
			t.Logf("%d forged requests; %d of %d replies to another client lost", forged, lost, asked)
			var stats struct {
				Listeners []struct {
					Dropped uint64
					Drops   map[string]uint64 `json:"drops"`
				} `json:"listeners"`
			}
			if err := d.Report(&stats, "serverstats"); err != nil || len(stats.Listeners) != 1 || tt.rate > per && stats.Listeners[0].Drops["unresolved"] == 0 {
				t.Fatalf("serverstats: got %+v, %v, want what was held back", stats, err)
			}
			// A server that is not given the processor loses what its socket has no room for: that
			// the kernel counts, and it is no silence.
			room := uint64(asked/10) * min(stats.Listeners[0].Dropped, 1)
			if uint64(lost) > room || asked < 50 || forged < int(during.Seconds())*tt.rate/4 {
				t.Errorf("%d forged requests, %d others asked, %d of them in vain; want none in vain", forged, asked, lost)
			}
		})
	}
}
