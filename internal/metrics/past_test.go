package metrics

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"timeball/internal/history"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// longLived is a daemon with so many sources and a past of so long.
func longLived(sources int, past time.Duration) *fakeDaemon {
	f := someDaemon()
	f.process.Host = "time1.example.net"
	f.server.NotListening = nil
	random := rand.New(rand.NewPCG(1, 2))
	f.past = history.New(1_000_000)
	s := f.snapshot
	s.Sources = nil
	states := []model.State{model.StateSelected, model.StateCombined, model.StateCombined, model.StateCombined, model.StateFalseticker, model.StateSurvivor, model.StateUnreachable}
	for i := range sources {
		r := someSource()
		r.Name, r.Source = fmt.Sprintf("ntp%d.pool.example.net", i), model.SourceID(i+1)
		r.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 123)
		r.State = states[i%len(states)]
		r.Reason = map[model.State]string{model.StateSelected: "system peer: the nearest of those that agree", model.StateCombined: "agrees, and is combined with the others",
			model.StateFalseticker: "it disagrees with the majority: +250 ms ± 7.14 µs outside of what it allows", model.StateSurvivor: "agrees, but ten nearer sources are combined",
			model.StateUnreachable: "no answer to the last 8 polls"}[r.State]
		r.Error, r.Delay, r.Reach, r.LastSample = 9*time.Microsecond, 180*time.Microsecond, 0o377, f.now
		s.Sources = append(s.Sources, r)
	}
	s.SystemPeer = 1
	begin := f.now
	var served history.Served
	for since := time.Duration(0); since <= past; since += history.Interval {
		f.now = ntptime.Instant{Wall: begin.Wall.Add(since), Raw: begin.Raw.Add(since)}
		hours := since.Hours()
		s.At = f.now
		s.Offset = time.Duration(random.NormFloat64() * 2e3 * (1 + math.Sin(hours/4)))
		s.ErrorBound = time.Duration(20e3 + 5e3*math.Sin(hours/3) + random.Float64()*2e3)
		s.Frequency = ntptime.Frequency(-12e-6 + 2e-7*math.Sin(hours*2*math.Pi/24))
		s.Jitter = time.Duration(random.ExpFloat64() * 1.5e3)
		s.State, s.Synchronized, s.LastUpdate, s.LeapPending = model.DisciplineSync, true, f.now, 0
		s.RootDelay, s.RootDispersion, s.EstimatedError, s.FrequencyError = 180*time.Microsecond, 9*time.Microsecond, 2*time.Microsecond, 3e-9
		for i := range s.Sources {
			s.Sources[i].LastSample = f.now
		}
		for i := range s.Sources {
			s.Sources[i].Offset = time.Duration(random.NormFloat64()*4e3) + time.Duration(i%7-3)*3e3
			s.Sources[i].Samples = 100
			if i%16 == 6 && int(hours)%24 > 18 {
				s.Sources[i].State = model.StateUnreachable
			} else if i%16 == 6 {
				s.Sources[i].State = model.StateCombined
			}
		}
		served.Requests += uint64(100 + 40*math.Sin(hours*2*math.Pi/24) + random.Float64()*20)
		served.Answered = served.Requests * 97 / 100
		f.past.Record(s, f.now, served)
	}
	return f
}

// The whole page, with 64 sources and a week behind it, is small and soon made; its memory
// is below what is promised.
func TestPageOfAWeekWith64SourcesIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f := longLived(64, 7*24*time.Hour)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if size := int64(after.HeapAlloc) - int64(before.HeapAlloc); size > 1_000_000 {
		t.Errorf("the ring takes %d bytes, want 1 MB at most", size)
	}
	h := New(f, nil)
	for _, span := range history.Names() {
		begun := time.Now()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/?span="+span, nil))
		took := time.Since(begun)
		t.Logf("%s: %d bytes in %s", span, w.Body.Len(), took)
		if w.Code != 200 || w.Body.Len() > 150_000 {
			t.Errorf("%s: got status %d and %d bytes, want 200 and 150 kB at most", span, w.Code, w.Body.Len())
		}
		for _, want := range []string{"<svg", "time1.example.net", "Offset, and the error bound", "Selection", "Requests per second"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: no %q on the page", span, want)
			}
		}
		if folder := os.Getenv("TIMEBALL_PAGES"); folder != "" {
			if err := os.WriteFile(filepath.Join(folder, "64-"+span+".html"), w.Body.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The pictures are well-formed, and every coordinate is a number.
func TestChartsAreWellFormed(t *testing.T) {
	for name, f := range map[string]*fakeDaemon{
		"a day": longLived(5, 25*time.Hour), "a moment": longLived(1, 0), "no source": longLived(0, time.Hour),
	} {
		if folder := os.Getenv("TIMEBALL_PAGES"); folder != "" && name == "a day" {
			w := httptest.NewRecorder()
			New(f, nil).ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/?span=day", nil))
			if err := os.WriteFile(filepath.Join(folder, "day.html"), w.Body.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f.snapshot.Sources = append(f.snapshot.Sources, model.SourceReport{SourceStatus: model.SourceStatus{Name: `<b a="&">`}})
		f.past.Record(f.snapshot, f.now, history.Served{})
		for _, span := range history.Names() {
			view := f.past.View(span, f.now)
			picture := string(view.Picture("a title & <more>"))
			if strings.Contains(picture, "NaN") || strings.Contains(picture, "Inf") {
				t.Errorf("%s, %s: a coordinate is no number", name, span)
			}
			d := xml.NewDecoder(strings.NewReader(picture))
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s, %s: %v in\n%s", name, span, err, picture)
				}
			}
		}
	}
}
