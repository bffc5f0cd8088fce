package statistics

import (
	"encoding/csv"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// noon is 2026-11-28 12:00 UTC, MJD 61372.
var noon = ntptime.WallOf(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))

func at(w ntptime.Wall) ntptime.Instant {
	return ntptime.Instant{Wall: w, Raw: ntptime.Raw(5 * time.Second)}
}

// exchange is one whose server is 30 ms ahead, with a delay of 20 ms.
func exchange(t1 ntptime.Wall) *model.Sample {
	s := &model.Sample{Source: 1, T1: at(t1), T2: t1.Add(40 * time.Millisecond), T3: t1.Add(41 * time.Millisecond), T4: at(t1.Add(21 * time.Millisecond))}
	s.Server.Stratum, s.Server.ReferenceID, s.Server.RootDispersion = 2, 0xc0000201, 3*time.Millisecond
	return s
}

func source() *model.SourceReport {
	r := &model.SourceReport{State: model.StateSelected, Jitter: time.Millisecond, Reason: `agrees, and is "near"`}
	r.Source, r.Name, r.Address, r.Reach = 1, "a.example", netip.MustParseAddrPort("192.0.2.1:123"), 255
	return r
}

func snapshot(w ntptime.Wall) *model.Snapshot {
	s := &model.Snapshot{At: at(w), LastUpdate: at(w), State: model.DisciplineSync, Synchronized: true, Stratum: 3, SystemPeer: 1,
		Offset: 2 * time.Millisecond, Frequency: 12e-6, Jitter: time.Microsecond, PollInterval: 64 * time.Second}
	s.Sources = []model.SourceReport{*source()}
	return s
}

func write(t *testing.T, cfg Config, work func(w *Writer)) map[string]string {
	t.Helper()
	cfg.Directory = filepath.Join(t.TempDir(), "statistics")
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	work(w)
	w.Close()
	files := map[string]string{}
	entries, err := os.ReadDir(cfg.Directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(cfg.Directory, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

func TestCSVHasAHeaderAndItsColumns(t *testing.T) {
	files := write(t, Config{Measurements: true, Tracking: true, Selection: true}, func(w *Writer) {
		w.Measurement(exchange(noon), source(), "192.0.2.9")
		w.Snapshot(snapshot(noon))
		w.Snapshot(snapshot(noon)) // nothing new
	})
	for name, want := range map[string]map[string]string{
		"measurements-20261128.csv": {"source": "a.example", "address": "192.0.2.1:123", "t1": "1795867200.000000000", "t4": "1795867200.021000000",
			"offset": "0.030000000", "delay": "0.020000000", "stratum": "2", "raw4": "5.000000000"},
		"tracking-20261128.csv":  {"source": "a.example", "frequency": "0.000012000000", "state": "sync", "poll_interval": "64"},
		"selection-20261128.csv": {"state": "selected", "reason": `agrees, and is "near"`},
	} {
		rows, err := csv.NewReader(strings.NewReader(files[name])).ReadAll()
		if err != nil || len(rows) != 2 {
			t.Errorf("%s: got %d rows, %v, want a header and one\n%s", name, len(rows), err, files[name])
			continue
		}
		for i, column := range rows[0] {
			if value, told := want[column]; told && rows[1][i] != value {
				t.Errorf("%s: %s is %q, want %q", name, column, rows[1][i], value)
			}
		}
		if len(rows[0]) != len(rows[1]) {
			t.Errorf("%s: %d columns and %d values", name, len(rows[0]), len(rows[1]))
		}
	}
}

func TestNTPDsFormats(t *testing.T) {
	files := write(t, Config{Measurements: true, Tracking: true, Selection: true, NTPD: true}, func(w *Writer) {
		w.Measurement(exchange(noon), source(), "192.0.2.9")
		w.Snapshot(snapshot(noon))
	})
	for name, want := range map[string]string{
		"peerstats.20261128": "61372 43200.021 192.0.2.1 9600 0.030000000 0.020000000 0.003000000 0.001000000\n",
		"rawstats.20261128":  "61372 43200.021 192.0.2.1 192.0.2.9 4004856000.000000000 4004856000.040000000 4004856000.041000000 4004856000.021000000 0 4 4 2 0 0 0.000000 0.003000 192.0.2.1 0\n",
		"loopstats.20261128": "61372 43200.000 0.002000000 12.000000 0.000001000 0.000000 6\n",
	} {
		if files[name] != want {
			t.Errorf("%s: got %q, want %q", name, files[name], want)
		}
	}
	if len(files) != 3 {
		t.Errorf("got %d files, want 3", len(files))
	}
}

func TestADayIsAFileAndOldOnesGo(t *testing.T) {
	files := write(t, Config{Measurements: true, Keep: 2}, func(w *Writer) {
		for day := range 4 {
			w.Measurement(exchange(noon.Add(time.Duration(day)*24*time.Hour)), source(), "")
		}
	})
	if len(files) != 2 || files["measurements-20261201.csv"] == "" || files["measurements-20261130.csv"] == "" {
		t.Errorf("got %v, want the last two days", files)
	}
}

func TestAFileGoesOnAfterARestart(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		w, err := New(Config{Directory: dir, Measurements: true})
		if err != nil {
			t.Fatal(err)
		}
		w.Measurement(exchange(noon), source(), "")
		w.Close()
	}
	text, _ := os.ReadFile(filepath.Join(dir, "measurements-20261128.csv"))
	if got := strings.Count(string(text), "\n"); got != 3 || strings.Count(string(text), "time,") != 1 {
		t.Errorf("got %q, want one header and two rows", text)
	}
}

func TestAFolderThatCannotBeWrittenToIsAnError(t *testing.T) {
	if _, err := New(Config{Directory: filepath.Join(t.TempDir(), "a", "b")}); err == nil || !strings.Contains(err.Error(), "statistics.directory") {
		t.Errorf("got %v, want the key named", err)
	}
}
