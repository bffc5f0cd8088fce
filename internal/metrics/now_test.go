package metrics

import (
	"encoding/json"
	"net/http"
	"testing"

	"timeball/internal/bound"
)

func TestNowIsServed(t *testing.T) {
	address := serve(t, nil)
	answer, err := http.Get("http://" + address + "/now")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var now bound.Now
	if err := json.NewDecoder(answer.Body).Decode(&now); err != nil {
		t.Fatal(err)
	}
	if now.EarliestNanoseconds >= now.LatestNanoseconds || now.Status == "" {
		t.Errorf("got %+v", now)
	}
	if known := now.Status != bound.Unknown; known != (answer.StatusCode == http.StatusOK) {
		t.Errorf("status %d with %s", answer.StatusCode, now.Status)
	}
}
