package scenarios

import (
	"encoding/csv"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// peer is a row of peers.csv: what another daemon reached in a scenario, as the
// median over its seeds. Times in seconds; infinite: never.
type peer struct {
	program, polling               string // chrony, ntpd, ntpdrs; def, p4, p6, ...
	rms, p95, max, frequency       float64
	packets                        float64
	below10ms, below1ms, below100u float64
}

// limit is a row of limits.csv: what can be reached with known parameters at a fixed
// poll interval.
type limit struct{ kalman, delayWeighted, bayes float64 }

// records reads a file of comma-separated values without its header.
func records(t *testing.T, name string) [][]string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return rows[1:]
}

// numeral reads a number; an empty field is infinite.
func numeral(t *testing.T, text string) float64 {
	t.Helper()
	if text == "" {
		return math.Inf(1)
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// readPeers gives the peers of each scenario.
func readPeers(t *testing.T) map[string][]peer {
	peers := map[string][]peer{}
	for _, row := range records(t, "peers.csv") {
		program, polling, _ := strings.Cut(row[1], "-")
		n := func(i int) float64 { return numeral(t, row[i]) }
		peers[row[0]] = append(peers[row[0]], peer{
			program: program, polling: polling, rms: n(3), p95: n(4), max: n(5), frequency: n(6), packets: n(7),
			below10ms: n(8), below1ms: n(9), below100u: n(10),
		})
	}
	return peers
}

// readLimits gives the limits of each scenario and poll interval in seconds.
func readLimits(t *testing.T) map[string]map[int]limit {
	limits := map[string]map[int]limit{}
	for _, row := range records(t, "limits.csv") {
		if limits[row[0]] == nil {
			limits[row[0]] = map[int]limit{}
		}
		limits[row[0]][int(numeral(t, row[3]))] = limit{numeral(t, row[4]), numeral(t, row[5]), numeral(t, row[6])}
	}
	return limits
}

// best is the peer with the least RMS error at a polling, and chrony's row.
func best(peers []peer, polling string) (least, chrony *peer) {
	for i := range peers {
		p := &peers[i]
		if p.polling != polling {
			continue
		}
		if least == nil || p.rms < least.rms {
			least = p
		}
		if p.program == "chrony" {
			chrony = p
		}
	}
	return least, chrony
}

func TestPeersBeginWithTheTablesFirstRow(t *testing.T) {
	peers := readPeers(t)
	least, chrony := best(peers["lan-quiet"], "def")
	if least == nil || least.program != "ntpdrs" || least.rms != 5.21e-6 || chrony.rms != 19e-6 {
		t.Errorf("got best %+v and chrony %+v, want ntpdrs 5.21 us and chrony 19 us", least, chrony)
	}
	if got := readLimits(t)["wan"][64].bayes; got != 42.6e-6 {
		t.Errorf("got limit %v, want 42.6 us", got)
	}
}
