package metrics

import (
	"encoding/json"
	"net/http"

	"timeball/internal/bound"
)

// writeNow answers /now: between which two moments UTC is. Where nothing is known of it
// the status is 503, so that a program that looks at nothing else is not misled.
func writeNow(w http.ResponseWriter, source Source) {
	answer := bound.Now{Status: bound.Unknown}
	if s := source.Snapshot(); s != nil {
		answer = bound.At(s, source.Now())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if answer.Status == bound.Unknown {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer)
}
