package metrics

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestReadyAndHealthy(t *testing.T) {
	get := func(f *fakeDaemon, path string) int {
		w := httptest.NewRecorder()
		New(f, nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://10.0.0.7:9123"+path, nil))
		return w.Code
	}
	for _, test := range []struct {
		name           string
		change         func(f *fakeDaemon)
		ready, healthy int
	}{
		{"synchronized", func(*fakeDaemon) {}, 200, 200},
		{"not synchronized", func(f *fakeDaemon) { f.snapshot.Synchronized = false }, 503, 200},
		{"no snapshot yet", func(f *fakeDaemon) { f.snapshot = nil }, 503, 503},
		{"the system process hangs", func(f *fakeDaemon) { f.now.Raw = f.snapshot.At.Raw.Add(2 * time.Minute) }, 200, 503},
	} {
		f := someDaemon()
		f.snapshot.Synchronized, f.now = true, f.snapshot.At
		test.change(f)
		if got := get(f, "/ready"); got != test.ready {
			t.Errorf("%s: /ready gives %d, want %d", test.name, got, test.ready)
		}
		if got := get(f, "/healthz"); got != test.healthy {
			t.Errorf("%s: /healthz gives %d, want %d", test.name, got, test.healthy)
		}
	}
}
