package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

var (
	rounds  = flag.Int("rounds", 5, "rounds of the comparison of servers; medians are given")
	stretch = flag.Duration("stretch", time.Second, "how long each measurement lasts, in all")
	turns   = flag.Int("turns", 4, "pieces of each measurement, between which all others that it is compared with have their turn")
)

func TestMain(m *testing.M) {
	for _, be := range []func() (bool, error){beGenerator, beNoise} {
		did, err := be()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if did {
			return
		}
	}
	peers.Main(m)
}

// figures holds a value for each round, by server and measurement.
type figures map[string]map[string][]float64

func (f figures) add(server, what string, value float64) {
	if f[server] == nil {
		f[server] = make(map[string][]float64)
	}
	f[server][what] = append(f[server][what], value)
}

func (f figures) median(server, what string) float64 { return median(f[server][what]) }

// last is the newest value.
func (f figures) last(server, what string) float64 {
	values := f[server][what]
	return values[len(values)-1]
}

// ratio is the median of the rounds' ratios: what disturbs a round disturbs both.
func (f figures) ratio(a, aWhat, b, bWhat string) float64 {
	var ratios []float64
	for i, v := range f[a][aWhat] {
		if i < len(f[b][bWhat]) && f[b][bWhat][i] != 0 {
			ratios = append(ratios, v/f[b][bWhat][i])
		}
	}
	return median(ratios)
}

// closed keeps 256 requests unanswered: what a server can do.
func closed(kind Kind, addresses int) Load {
	return Load{Kind: kind, InFlight: 256, Burst: 4, Addresses: addresses, Key: key, Duration: *stretch}
}

// open sends at a rate, in bursts of 4 above 20,000 a second.
func open(rate float64) Load {
	burst := 4
	if rate <= 20000 {
		burst = 1
	}
	return Load{Kind: KindPlain, Rate: rate, Burst: burst, Duration: *stretch}
}

// BenchmarkServers compares timeball's daemon with chronyd and with the bare loop: in
// turn within a round, so that ratios mean something on a machine that does other work.
func BenchmarkServers(b *testing.B) {
	lab := peers.NewLab(b)
	h := lab.Host("bench")
	servers := []*contender{startReference(b, h, "127.0.0.1", 3123), startChronyd(b, h, 1123), startTimeball(b, h, "timeball", 2123, "")}
	limiting := startTimeball(b, h, "limiting", 2124, "rate_limit: {interval: 2s, burst: 8, leak: 4}")
	for _, s := range append(servers, limiting) {
		s.answers(b, h)
	}
	f := make(figures)
	b.ResetTimer()
	for range b.N {
		for range *rounds {
			compare(b, h, servers, f)
			limits(b, h, limiting, f)
		}
	}
	b.StopTimer()
	for _, s := range servers[1:] {
		interleaves(b, h, s, f)
	}
	for _, s := range append(servers, limiting) {
		f.add(s.name, "rss", s.resident())
	}
	report(b, f)
}

// trial is a load whose results are kept under a name.
type trial struct {
	what string
	load Load
}

// compare takes every measurement of every server once.
func compare(b *testing.B, h *peers.Host, servers []*contender, f figures) {
	b.Helper()
	alternate(b, h, servers, f, []trial{
		{"closed", closed(KindPlain, 0)}, {"keyed", closed(KindKeyed, 0)},
		{"one", closed(KindPlain, 256)}, {"many", closed(KindPlain, 65536)},
	})
	alternate(b, h, servers, f, []trial{{"over", open(700_000)}, {"50k", open(50_000)}, {"10k", open(10_000)}})
	lossless(b, h, servers, f)
}

// alternate applies some loads to some servers, a slice of each in turn: what disturbs one
// of them disturbs all.
func alternate(b *testing.B, h *peers.Host, servers []*contender, f figures, trials []trial) {
	b.Helper()
	type of struct{ server, what string }
	sums, latencies := make(map[of]measured), make(figures)
	for range *turns {
		for _, t := range trials {
			for _, s := range servers {
				if t.load.Kind == KindKeyed && s.name == "reference" {
					continue // has no keys
				}
				t.load.Duration = *stretch / time.Duration(*turns)
				m := apply(b, h, s, t.load)
				sums[of{s.name, t.what}] = sums[of{s.name, t.what}].plus(m)
				latencies.add(s.name, t.what+" p50", m.P50.Seconds()*1e6)
				latencies.add(s.name, t.what+" p99", m.P99.Seconds()*1e6)
			}
		}
	}
	for who, m := range sums {
		f.add(who.server, who.what, m.Rate())
		f.add(who.server, who.what+" cpu", m.perMillion())
		for _, p := range []string{" p50", " p99"} {
			f.add(who.server, who.what+p, latencies.median(who.server, who.what+p))
		}
	}
}

// lossless searches, for every server, the highest rate at which under 1 % of the requests
// are lost: a step for each of them in turn.
func lossless(b *testing.B, h *peers.Host, servers []*contender, f figures) {
	b.Helper()
	low, high := make(map[string]float64), make(map[string]float64)
	for _, s := range servers {
		low[s.name], high[s.name] = 0.2*f.last(s.name, "closed"), 1.3*f.last(s.name, "closed")
	}
	const steps = 6 // to 2 % of what a closed loop gave
	for range steps {
		for _, s := range servers {
			rate := (low[s.name] + high[s.name]) / 2
			load := open(rate)
			load.Duration /= 2
			if apply(b, h, s, load).Loss() < 0.01 {
				low[s.name] = rate
			} else {
				high[s.name] = rate
			}
		}
	}
	for _, s := range servers {
		f.add(s.name, "lossless", low[s.name])
	}
}

// limits measures what a refusal costs where one address asks for far more than it may. One
// in 16 is answered, so the answers tell how many the server has judged.
func limits(b *testing.B, h *peers.Host, s *contender, f figures) {
	b.Helper()
	load := open(500_000)
	load.Burst = 16
	m := apply(b, h, s, load)
	f.add(s.name, "refused cost", (m.perMillion()-f.last("timeball", "closed cpu"))/15)
	f.add(s.name, "refused share", 1-float64(m.Received)/float64(m.Sent))
}

// interleaves gives the share of interleaved replies once clients are known: 16,000 of them,
// each asking every second.
func interleaves(b *testing.B, h *peers.Host, s *contender, f figures) {
	b.Helper()
	const clients = 16_000
	m := apply(b, h, s, Load{Kind: KindInterleaved, Addresses: clients, Rate: clients, Burst: 1, Duration: 8 * time.Second})
	f.add(s.name, "interleaved", float64(m.LateInterleaved)/float64(max(m.LateReceived, 1)))
	f.add(s.name, "interleaved loss", m.Loss())
}

// BenchmarkClientNoise compares the offset noise of kernel timestamps with that of our own
// readings of the clock, over a quiet pair of interfaces, against chronyd.
func BenchmarkClientNoise(b *testing.B) {
	lab := peers.NewLab(b)
	server, client := lab.Host("server"), lab.Host("client")
	s := startChronyd(b, server, 123)
	s.answers(b, server)
	var kernel, user, ratios []float64
	for range b.N {
		for range *rounds {
			out, complaints, err := client.Run([]string{fmt.Sprintf("%s=%s:123", noiseVariable, server.IPv4)}, os.Args[0])
			if err != nil {
				b.Fatalf("%v: %s", err, complaints)
			}
			var n Noise
			if err := json.Unmarshal([]byte(out), &n); err != nil {
				b.Fatal(err)
			}
			if n.KernelTimestamps < n.Exchanges*9/10 {
				b.Errorf("%d of %d exchanges have the kernel's timestamps", n.KernelTimestamps, n.Exchanges)
			}
			kernel, user = append(kernel, n.KernelMedian.Seconds()*1e6), append(user, n.UserMedian.Seconds()*1e6)
			ratios = append(ratios, n.Kernel.Seconds()/n.User.Seconds())
			b.Logf("offset rms %v with kernel timestamps, %v with our own; medians %v, %v", n.Kernel, n.User, n.KernelMedian, n.UserMedian)
		}
	}
	b.ReportMetric(median(kernel), "us-kernel")
	b.ReportMetric(median(user), "us-user")
	b.ReportMetric(median(ratios), "rms-ratio")
	fmt.Printf("\nmedian |offset|: %.2f us with kernel timestamps, %.2f us with our own; rms ratio %.2f, median ratio %.2f (want <= 0.50)\n",
		median(kernel), median(user), median(ratios), median(kernel)/median(user))
}

// judge prints and reports a figure, and what was asked of it.
func judge(b *testing.B, w io.Writer, name string, got float64, relation string, want float64) {
	b.Helper()
	met := "met"
	if relation == ">=" && got < want || relation == "<=" && got > want {
		met = "NOT MET"
	}
	fmt.Fprintf(w, "%-58s %6.2f  %s %.2f  %s\n", name, got, relation, want, met)
	b.ReportMetric(got, strings.ReplaceAll(name, " ", "_"))
}

// report prints the table and what was asked of it.
func report(b *testing.B, f figures) {
	b.Helper()
	var w strings.Builder
	fmt.Fprintf(&w, "\n%-10s %9s %9s %9s | %8s %8s %8s | %7s %7s | %9s %9s | %6s\n", "server", "closed/s", "over/s", "<1%/s",
		"s/M sat", "s/M 50k", "s/M 10k", "p50 us", "p99 us", "64k addr", "keyed/s", "MiB")
	for _, name := range []string{"reference", "chronyd", "timeball"} {
		m := func(what string) float64 { return f.median(name, what) }
		fmt.Fprintf(&w, "%-10s %9.0f %9.0f %9.0f | %8.2f %8.2f %8.2f | %7.1f %7.1f | %9.0f %9.0f | %6.1f\n", name, m("closed"), m("over"), m("lossless"),
			m("closed cpu"), m("50k cpu"), m("10k cpu"), m("10k p50"), m("10k p99"), m("many"), m("keyed"), m("rss"))
	}
	w.WriteByte('\n')
	bar := func(name string, got float64, relation string, want float64) { judge(b, &w, name, got, relation, want) }
	bar("timeball to chronyd: closed loop", f.ratio("timeball", "closed", "chronyd", "closed"), ">=", 1.10)
	bar("timeball to chronyd: under 1 % loss", f.ratio("timeball", "lossless", "chronyd", "lossless"), ">=", 1.30)
	bar("timeball to chronyd: cpu a reply, saturated", f.ratio("timeball", "closed cpu", "chronyd", "closed cpu"), "<=", 0.90)
	bar("timeball to chronyd: cpu a reply, 10,000 a second", f.ratio("timeball", "10k cpu", "chronyd", "10k cpu"), "<=", 1.10)
	bar("timeball to chronyd: median latency", f.ratio("timeball", "10k p50", "chronyd", "10k p50"), "<=", 1.05)
	bar("timeball to reference: closed loop", f.ratio("timeball", "closed", "reference", "closed"), ">=", 0.85)
	bar("timeball: keyed to plain", f.ratio("timeball", "keyed", "timeball", "closed"), ">=", 0.90)
	bar("timeball: 65,536 clients to 256", f.ratio("timeball", "many", "timeball", "one"), ">=", 0.95)
	bar("timeball: resident memory, MiB", f.median("timeball", "rss"), "<=", 20)
	bar("timeball: a refused request to an answered one", f.ratio("limiting", "refused cost", "timeball", "closed cpu"), "<=", 0.50)
	bar("timeball: interleaved replies to 16,000 clients", f.median("timeball", "interleaved"), ">=", 0.99)
	fmt.Fprintf(&w, "\nchronyd: interleaved replies to 16,000 clients %.2f, of its requests lost %.2f (timeball %.2f); refused by timeball %.2f\n",
		f.median("chronyd", "interleaved"), f.median("chronyd", "interleaved loss"), f.median("timeball", "interleaved loss"), f.median("limiting", "refused share"))
	fmt.Fprintf(&w, "65,536 clients to 256, as far as the sockets go: reference %.2f, chronyd %.2f; cpu a reply: timeball %.2f, reference %.2f\n",
		f.ratio("reference", "many", "reference", "one"), f.ratio("chronyd", "many", "chronyd", "one"),
		f.ratio("timeball", "many cpu", "timeball", "one cpu"), f.ratio("reference", "many cpu", "reference", "one cpu"))
	fmt.Fprintf(&w, "chronyd to reference: closed %.2f; timeball to reference: over %.2f, <1 %% %.2f; timeball to chronyd: over %.2f, cpu at 50,000 %.2f\n",
		f.ratio("chronyd", "closed", "reference", "closed"), f.ratio("timeball", "over", "reference", "over"),
		f.ratio("timeball", "lossless", "reference", "lossless"), f.ratio("timeball", "over", "chronyd", "over"), f.ratio("timeball", "50k cpu", "chronyd", "50k cpu"))
	fmt.Print(w.String())
}
