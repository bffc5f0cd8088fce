package responder_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// BenchmarkRespond is the whole daemon's share of a request: access list, client log,
// rate limit where it says so, header, MAC.
func BenchmarkRespond(b *testing.B) {
	for _, bench := range []struct {
		name    string
		clients int
		batch   int // requests that are announced together
		key     mac.Type
		limited bool
	}{
		{name: "plain, one client", clients: 1},
		{name: "plain, 65536 clients", clients: 65536},
		{name: "plain, 65536 clients in batches", clients: 65536, batch: 16},
		{name: "aes128-cmac, one client", clients: 1, key: mac.AES128},
		{name: "sha1, one client", clients: 1, key: mac.SHA1},
		{name: "over the limit, one client", clients: 1, limited: true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			w := newWorld(b)
			w.policy.Access = responder.NewAccess(responder.AccessLists{
				Server:          prefixes(b, "10.0.0.0/8", "2001:db8::/32"),
				Synchronization: prefixes(b, "192.0.2.0/24", "198.51.100.0/24"),
			})
			if bench.limited {
				w.policy.Limit = &responder.RateLimit{Interval: 1 << 40, Burst: 1, Leak: 16}
			}
			h := wire.Header{Version: 4, Mode: wire.ModeClient, Poll: 6, Transmit: 0x123456789}
			request := h.Append(nil)
			if bench.key != 0 {
				request = w.key(b, bench.key).AppendMAC(request, 4)
			}
			rx := model.Received{Data: request, Local: netip.MustParseAddr("10.0.0.1"), At: w.now}
			reply := make([]byte, 1024)
			remotes := make([]netip.AddrPort, bench.clients)
			for i := range remotes {
				var a [4]byte
				binary.BigEndian.PutUint32(a[:], 10<<24|uint32(i)+256)
				remotes[i] = netip.AddrPortFrom(netip.AddrFrom4(a), 40000)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				at := i % len(remotes)
				if rx.Remote = remotes[at]; bench.batch > 0 && i%bench.batch == 0 {
					w.shard.Expect(remotes[at : at+bench.batch])
				}
				i++
				w.pass(1000)
				rx.At = w.now
				n, v := w.shard.Respond(reply, &rx, &w.env)
				if !bench.limited && (n != len(request) || v.Result != responder.Answered) {
					b.Fatalf("got %d bytes, %v, %v", n, v.Result, v.Reason)
				}
			}
		})
	}
}

func BenchmarkInterleaved(b *testing.B) {
	w := newWorld(b)
	w.policy.Interleaved = true
	h := wire.Header{Version: 4, Mode: wire.ModeClient, Poll: 6, Origin: 1, Receive: 1, Transmit: 2}
	request := h.Append(nil)
	rx := model.Received{Data: request, Remote: netip.MustParseAddrPort("10.0.0.2:40000"), Local: netip.MustParseAddr("10.0.0.1"), At: w.now}
	reply := make([]byte, 1024)
	b.ReportAllocs()
	first := true
	for b.Loop() {
		w.pass(1000)
		rx.At = w.now
		_, v := w.shard.Respond(reply, &rx, &w.env)
		if v.Result == responder.Interleaved {
			w.shard.Transmitted(v.TimestampID, ntptime.Instant{Wall: rx.At.Wall + 500})
		} else if !first {
			b.Fatalf("got %v, want interleaved", v.Result)
		}
		first = false
		copy(request[24:], reply[32:40])
	}
}

func BenchmarkAccess(b *testing.B) {
	var lists responder.AccessLists
	for i := range 1000 {
		lists.Server = append(lists.Server, responder.AccessRule{Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i >> 8), byte(i), 0, 0}), 24)})
	}
	access := responder.NewAccess(lists)
	addr := netip.MustParseAddr("2.200.0.7")
	b.ReportAllocs()
	for b.Loop() {
		access.Right(addr)
	}
}

// BenchmarkTotals is a scrape of the metrics over a full table.
func BenchmarkTotals(b *testing.B) {
	w := newWorld(b)
	h := request(4)
	data := h.Append(nil)
	for i := range 65536 {
		w.askFrom(numbered(i), data)
		w.pass(1000)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.clients.Totals(1<<40, w.now.Raw)
	}
}
