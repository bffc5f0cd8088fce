package lab

import (
	"strings"
	"testing"
)

// A lab has no receivers: a reference clock would read a device of this machine, which
// knows nothing of the scenario.
func TestLabRefusesReferenceClocks(t *testing.T) {
	s := scenarioOf(t, `
hosts:
  top: {receivers: [{refid: GPS}], config: {sources: [{refclock: {driver: shm, unit: 250, refid: GPS}}], server: {}}}
`)
	if _, err := Open(s, Options{}); err == nil || !strings.Contains(err.Error(), "a lab has no receivers") {
		t.Errorf("got %v", err)
	}
}
