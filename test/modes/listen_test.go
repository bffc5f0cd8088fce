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

// Every kind of address that may stand under server.listen is served, whatever the number
// of workers: wildcard, loopback, global and link-local, of IPv4 and IPv6.
func TestEveryKindOfListenAddressIsServed(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			link(t, server, "address", "add", "169.254.7.1/16", "dev", "eth0")
			link(t, client, "address", "add", "169.254.7.2/16", "dev", "eth0")
			link(t, server, "-6", "address", "add", "fe80::7/64", "dev", "eth0", "nodad")
			v4, v6 := server.IPv4.String(), server.IPv6.String()
			const near = "fe80::7%eth0"
			rows := []struct {
				listen string // with the port left out
				from   *peers.Host
				ask    []string
			}{
				{":", client, []string{v4, v6, near, "169.254.7.1"}},
				{"0.0.0.0:", client, []string{v4, "169.254.7.1"}},
				{"[::]:", client, []string{v6, near}},
				{"127.0.0.1:", server, []string{"127.0.0.1"}},
				{"[::1]:", server, []string{"::1"}},
				{v4 + ":", client, []string{v4}},
				{"[" + v6 + "]:", client, []string{v6}},
				{"169.254.7.1:", client, []string{"169.254.7.1"}},
				{"[" + near + "]:", client, []string{near}},
			}
			var listen []string
			for i, row := range rows {
				listen = append(listen, fmt.Sprintf("'%s%d'", row.listen, 2000+i))
			}
			d := peers.Timeball(t, server, fmt.Sprintf("%sserver: {listen: [%s], workers: %d}\n", reference, strings.Join(listen, ", "), workers))
			d.Says(time.Minute, "timeball runs")
			if d.Said("nothing is served") > 0 {
				t.Errorf("something is not served:\n%s", d.Log())
			}
			for i, row := range rows {
				for _, address := range row.ask {
					for range 8 { // several clients, so that each socket gets some
						to := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(2000+i))
						if err := askedAt(row.from, to); err != nil {
							t.Errorf("listening at %s, asked at %v: %v", listen[i], to, err)
							break
						}
					}
				}
			}
		})
	}
}

// askedAt asks a server for the time, from a port of its own, and says what is wrong with
// the reply.
func askedAt(from *peers.Host, to netip.AddrPort) error {
	request := make([]byte, wire.HeaderSize)
	request[0], request[40] = 4<<3|3, 0xe9
	reply, err := from.Exchange(to, request, 15*time.Second)
	if err == nil && (len(reply) != wire.HeaderSize || reply[0]&7 != 4) {
		err = fmt.Errorf("replied %x", reply)
	}
	return err
}
