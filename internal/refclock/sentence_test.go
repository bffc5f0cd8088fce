package refclock

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func sentence(body string) string {
	sum := byte(0)
	for i := range len(body) {
		sum ^= body[i]
	}
	return fmt.Sprintf("$%s*%02X\r\n", body, sum)
}

func TestNMEASentences(t *testing.T) {
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name  string
		lines []string
		want  []time.Time
		why   []model.ReadingRefusal
	}{
		{"RMC", []string{sentence("GPRMC,120000.00,A,4807.038,N,01131.000,E,0,0,011126,,,A")}, []time.Time{noon}, nil},
		{"RMC of several systems, with milliseconds", []string{sentence("GNRMC,120000.250,A,,,,,,,011126,,")}, []time.Time{noon.Add(250 * time.Millisecond)}, nil},
		{"RMC without a fix", []string{sentence("GPRMC,120000,V,,,,,,,011126,,,N")}, nil, []model.ReadingRefusal{model.ReadingNoFix}},
		{"RMC before any time", []string{sentence("GPRMC,,V,,,,,,,,,,N")}, nil, []model.ReadingRefusal{model.ReadingNoFix}},
		{"ZDA", []string{sentence("GPZDA,120000.00,01,11,2026,00,00")}, []time.Time{noon}, nil},
		{"ZDA behind an RMC without fix", []string{sentence("GPRMC,120000,V,,,,,,,011126,,,N"), sentence("GPZDA,120001,01,11,2026,,")}, nil, []model.ReadingRefusal{model.ReadingNoFix, model.ReadingNoFix}},
		{"GGA alone has no date", []string{sentence("GPGGA,120000,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,")}, nil, nil},
		{"GGA behind an RMC", []string{sentence("GPRMC,115959,A,,,,,,,011126,,"), sentence("GPGGA,120000,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,")}, []time.Time{noon.Add(-time.Second), noon}, nil},
		{"one reading a burst", []string{sentence("GPGGA,120000,,,,,1,08,,,,,,,"), sentence("GPRMC,120000,A,,,,,,,011126,,"), sentence("GPZDA,120000,01,11,2026,,")}, []time.Time{noon}, nil},
		{"quality 0: no fix", []string{sentence("GPRMC,115959,A,,,,,,,011126,,"), sentence("GPGGA,120000,,,,,0,00,,,,,,,")}, []time.Time{noon.Add(-time.Second)}, []model.ReadingRefusal{model.ReadingNoFix}},
		{"midnight between two sentences", []string{sentence("GPRMC,235959,A,,,,,,,011126,,"), sentence("GPGGA,000000,,,,,1,08,,,,,,,")}, []time.Time{noon.Add(12*time.Hour - time.Second), noon.Add(12 * time.Hour)}, nil},
		{"a date 1024 weeks ago", []string{sentence("GPRMC,120000,A,,,,,,,180307,,")}, nil, []model.ReadingRefusal{model.ReadingDate}},
		{"30 February", []string{sentence("GPRMC,120000,A,,,,,,,300226,,")}, nil, []model.ReadingRefusal{model.ReadingNoFix}},
		{"wrong checksum", []string{"$GPRMC,120000,A,,,,,,,011126,,*00\r\n"}, nil, []model.ReadingRefusal{model.ReadingMalformed}},
		{"no checksum", []string{"$GPRMC,120000,A,,,,,,,011126,,\r\n"}, nil, []model.ReadingRefusal{model.ReadingMalformed}},
		{"satellites in view say nothing", []string{sentence("GPGSV,1,1,00")}, nil, nil},
		{"makers' own sentences say nothing", []string{sentence("GPRMC,115959,A,,,,,,,011126,,"), sentence("PGRMC,A,218.8,100,6378137.000,298.257223563,0.0,0.0,0.0,A,3,1,2,4,30"),
			sentence("PUBX,04,073731.00,091202,113851.00,1196,15D,1930035,-2660.664,43,"), sentence("PRMC,1"), sentence("GPGGA,120000,,,,,1,08,,,,,,,")}, []time.Time{noon.Add(-time.Second), noon}, nil},
		{"what is no sentence", []string{strings.Repeat("\xff\x00$\x80\r\n", 100)}, nil, []model.ReadingRefusal{model.ReadingNoise}},
		{"a console", []string{strings.Repeat("login: \r\n", 50)}, nil, []model.ReadingRefusal{model.ReadingNoise}},
		{"a maker's binary between sentences", []string{strings.Repeat("\xb5b\x01\x07\x5c\x00"+sentence("GPGSV,1,1,00"), 100)}, nil, nil},
		{"leap second", []string{sentence("GPRMC,115960,A,,,,,,,011126,,")}, []time.Time{noon}, nil},
		{"a broken sentence before a whole one", []string{"$GPRMC,1200" + sentence("GPRMC,120000,A,,,,,,,011126,,")}, []time.Time{noon}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			counters := new(Counters)
			n := newNMEA(Config{NotBefore: ntptime.WallOf(noon.AddDate(-1, 0, 0)), Counters: counters,
				Now: func() ntptime.Wall { return ntptime.WallOf(noon) }}, read)
			defer n.Close()
			if _, err := write.WriteString("noise\r\n" + strings.Join(test.lines, "")); err != nil {
				t.Fatal(err)
			}
			_ = write.Close()
			var got []time.Time
			for {
				r, err := n.Read(context.Background())
				if err != nil {
					break
				}
				got = append(got, r.Reference.Time())
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			var refused [model.ReadingRefusals]uint64
			for _, why := range test.why {
				refused[why]++
			}
			for why := range model.ReadingRefusals {
				if c := counters.Refused()[model.ReadingRefusal(why)]; c != refused[why] {
					t.Errorf("refused as %v: %d, want %d", model.ReadingRefusal(why), c, refused[why])
				}
			}
		})
	}
}

func FuzzNMEA(f *testing.F) {
	for _, body := range []string{"GPRMC,120000.00,A,4807.038,N,01131.000,E,0,0,011126,,,A", "GPZDA,120000.00,01,11,2026,00,00", "GPGGA,120000,,,,,1,08,,,,,,,"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var s sentences
		at := ntptime.Wall(1)
		for range 2 {
			for _, line := range [][]byte{[]byte(strings.TrimSpace(sentence(string(body)))), body} {
				fields, ok := splitSentence(line)
				if !ok {
					continue
				}
				if r, why, told := s.take(fields, at); told && why == noRefusal && r.Reference < 0 {
					t.Errorf("a time before 1970: %+v", r)
				}
			}
			at += 1e9
		}
	})
}
