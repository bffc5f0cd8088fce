package metrics

import (
	"fmt"
	"net/http"
	"time"
)

// stale is how old a snapshot may be before the process counts as ill: one is published
// every few seconds, whatever the sources do.
const stale = time.Minute

// writeHealth answers /healthz: 200 as long as the system process turns, synchronized or
// not. A supervisor restarts what does not.
func writeHealth(w http.ResponseWriter, source Source) {
	s := source.Snapshot()
	if s == nil || source.Now().Raw.Sub(s.At.Raw) > stale {
		http.Error(w, "the system process does not turn", http.StatusServiceUnavailable)
		return
	}
	answerText(w, "ok")
}

// writeReady answers /ready: 200 only while the clock is synchronized, so that nobody is
// led to a machine that does not know the time.
func writeReady(w http.ResponseWriter, source Source) {
	s := source.Snapshot()
	if s == nil || !s.Synchronized {
		state := "starting"
		if s != nil {
			state = s.State.String()
		}
		http.Error(w, "not synchronized: "+state, http.StatusServiceUnavailable)
		return
	}
	answerText(w, fmt.Sprintf("synchronized, stratum %d, within %s", s.Stratum, s.ErrorBound.Round(time.Microsecond)))
}

func answerText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprintln(w, text)
}
