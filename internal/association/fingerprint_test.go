package association

import (
	"fmt"
	"testing"

	"timeball/internal/model"
)

// fingerprint writes down all that an association is, but for the counters of refused
// packets, in named parts.
func fingerprint(a *Association) map[string]string {
	status := a.status
	status.Rejected = [model.RejectReasons]uint64{}
	status.Refusals = model.Refusals{}
	return map[string]string{
		"status": fmt.Sprintf("%+v", status), "poll": fmt.Sprintf("%+v", a.poll), "pending": fmt.Sprintf("%+v", a.pending),
		"last": fmt.Sprintf("%+v", a.last), "client": fmt.Sprintf("%+v", a.client), "symmetric": fmt.Sprintf("%+v", a.symmetric),
		"sender": fmt.Sprintf("%+v", a.broadcastServer), "listener": fmt.Sprintf("%+v", a.broadcastClient),
		"version": fmt.Sprint(a.cfg.Version), "life": fmt.Sprint(a.reachState, a.announced, a.done),
	}
}

// untouched fails the test if anything but counters changed since `before`.
func untouched(t testing.TB, before, after *Association) {
	t.Helper()
	want := fingerprint(before)
	for part, got := range fingerprint(after) {
		if got != want[part] {
			t.Errorf("%s has changed:\n got %s\nwant %s", part, got, want[part])
		}
	}
}
