package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func pageOf(t *testing.T, f *fakeDaemon) (string, *httptest.ResponseRecorder) {
	t.Helper()
	w := httptest.NewRecorder()
	New(f, nil).ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String(), w
}

func TestPageShowsHowThingsStand(t *testing.T) {
	text, w := pageOf(t, someDaemon())
	for _, want := range []string{
		"synchronized to a.example, stratum 2", "&#43;100.00 µs ± 9.500 ms", "-12.000", "a.example", "192.0.2.1:123", "selected",
		"system peer", "−2.000 ms ± 6.000 ms", "374", "1m40s ago", "1.2.3", "prefers-color-scheme: dark",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if got := w.Header().Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") {
		t.Errorf("content security policy: got %q", got)
	}
}

func TestPageShowsNoNumbersBeforeThereAreAny(t *testing.T) {
	f := someDaemon()
	f.server = nil
	f.snapshot = &model.Snapshot{Stratum: 16, ErrorBound: 16 * time.Second, Sources: []model.SourceReport{someSource()}}
	f.snapshot.Sources[0].Name, f.snapshot.Sources[0].LastSample = "192.0.2.1", ntptime.Instant{}
	text, _ := pageOf(t, f)
	for _, bad := range []string{"±", "0.0.0.0", "Offset</dt>", "192.0.2.1:123"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is on the page", bad)
		}
	}
}

func TestPageLoadsNothingFromAnywhere(t *testing.T) {
	text, _ := pageOf(t, someDaemon())
	for _, bad := range []string{"http:", "https:", "<script", "<link", "<img", "src=", "url(", "@import"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is on the page", bad)
		}
	}
}

func TestPageSaysWhatIsWrongInItsHeadline(t *testing.T) {
	for _, c := range []struct {
		what     string
		snapshot *model.Snapshot
		class    string
		words    string
	}{
		{"before the first snapshot", nil, "warn", "starting"},
		{"no source yet", &model.Snapshot{Stratum: 16}, "bad", "not synchronized"},
		{"panic", &model.Snapshot{State: model.DisciplinePanic, PanicOffset: -2000 * time.Second}, "bad", "−33m20s off, beyond the panic limit"},
		{"holdover", &model.Snapshot{State: model.DisciplineHoldover, Synchronized: true}, "warn", "holdover"},
		{"local", &model.Snapshot{State: model.DisciplineLocal, Synchronized: true, Stratum: 10}, "warn", "the local clock is the reference, at stratum 10"},
		{"no peer", &model.Snapshot{State: model.DisciplineSync, Synchronized: true, Stratum: 3}, "good", "synchronized, stratum 3"},
	} {
		text, _ := pageOf(t, &fakeDaemon{snapshot: c.snapshot})
		if !strings.Contains(text, `<h1 class="`+c.class+`">`) || !strings.Contains(text, c.words) {
			t.Errorf("%s: want %q in class %q", c.what, c.words, c.class)
		}
	}
}

func TestPageShowsNamesAsText(t *testing.T) {
	f := someDaemon()
	f.snapshot.Sources[0].Name = "<script>alert(1)</script>"
	f.snapshot.Sources[0].Reason = `"><img src=x>`
	text, _ := pageOf(t, f)
	if strings.Contains(text, "<script") || strings.Contains(text, "<img") {
		t.Error("a name got through as markup")
	}
}

func TestTimesArePrintedInFittingUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "+0 ns", 999: "+999 ns", -1500: "−1.50 µs", 250 * time.Millisecond: "+250.000 ms", 2 * time.Second: "+2 s",
		-99500 * time.Millisecond: "−99.5 s", 2 * time.Hour: "+2h0m0s",
	} {
		if got := offset(d); got != want {
			t.Errorf("%d ns: got %q, want %q", d, got, want)
		}
	}
	if got := ago(ntptime.Instant{}, start); got != "never" {
		t.Errorf("never: got %q", got)
	}
}
