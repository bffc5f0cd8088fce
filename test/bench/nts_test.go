package bench

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/ntske"
	"timeball/internal/siv"
	"timeball/test/peers"
)

// BenchmarkNTSServers compares what timeball and chronyd answer with NTS on one core, in
// turn; AEAD 15, which both have.
func BenchmarkNTSServers(b *testing.B) {
	lab := peers.NewLab(b)
	h, a := lab.Host("bench"), peers.NewAuthority(b)
	certificate, key := a.Issue(h, "127.0.0.1")
	roots, err := ntske.ReadRoots(a.Write(h))
	if err != nil {
		b.Fatal(err)
	}
	timeball := startTimeball(b, h, "timeball", 2123, fmt.Sprintf(`nts: {listen: [":2460"], certificate: %s, key: %s, keys: %s/nts-keys}`, certificate, key, h.Dir))
	env, argv := peers.ChronydCommand(b, h, fmt.Sprintf("local stratum 1\nallow all\nport 1123\nntsport 1460\nntsserverkey %s\nntsservercert %s", key, certificate))
	chronyd := start(b, h, "chronyd", 1123, env, argv...)
	loads := map[*contender]Load{}
	for server, ke := range map[*contender]string{timeball: "127.0.0.1:2460", chronyd: "127.0.0.1:1460"} {
		server.answers(b, h)
		ask := &ntske.Ask{Address: netip.MustParseAddrPort(ke), Name: "127.0.0.1", Roots: roots, Now: time.Now(), Algorithms: []siv.Algorithm{siv.AESSIVCMAC256}}
		var result *ntske.Result
		if err := h.Inside(func() (err error) { result, err = ntske.Exchange(context.Background(), ask); return err }); err != nil {
			b.Fatalf("%s: %v", server.name, err)
		}
		load := closed(KindNTS, 0)
		load.NTS = NTS{Secrets: result.Secrets, Cookie: result.Cookies[0]}
		load.Duration = *stretch / time.Duration(*turns)
		loads[server] = load
	}
	f := make(figures)
	b.ResetTimer()
	for range b.N {
		for range *rounds {
			sums := map[*contender]measured{}
			for range *turns {
				for _, server := range []*contender{timeball, chronyd} {
					sums[server] = sums[server].plus(apply(b, h, server, loads[server]))
				}
			}
			for server, m := range sums {
				f.add(server.name, "nts", m.Rate())
				f.add(server.name, "invalid", float64(m.Invalid))
				f.add(server.name, "cpu", m.spent.Seconds()/float64(max(m.Received, 1))*1e6)
			}
		}
	}
	b.StopTimer()
	ratio := f.ratio("timeball", "nts", "chronyd", "nts")
	fmt.Printf("\nNTS replies a second: timeball %.0f, chronyd %.0f, ratio %.2f (>= 1.50); cpu a reply: %.2f and %.2f us\n",
		f.median("timeball", "nts"), f.median("chronyd", "nts"), ratio, f.median("timeball", "cpu"), f.median("chronyd", "cpu"))
	b.ReportMetric(ratio, "NTS_to_chronyd")
	for _, server := range []string{"timeball", "chronyd"} {
		if f.median(server, "nts") == 0 || f.median(server, "invalid") > 0 {
			b.Errorf("%s: %v replies a second, %v of them invalid", server, f.median(server, "nts"), f.median(server, "invalid"))
		}
	}
}
