package daemon

import (
	"fmt"
	"strings"
	"testing"
)

// A local clock that no source has ever set has an error that nobody knows; one that was
// set keeps what it knew, growing, when the source is gone.
func TestALocalClockKnowsNoErrorUntilItIsSet(t *testing.T) {
	t.Parallel()
	never := start(t, "clock: {driver: virtual}\nlocal: {stratum: 3}\n")
	never.until("the local clock is served", never.synchronized)
	answer, err := never.report("tracking")
	if bound, there := answer["error_bound"]; err != nil || !there || bound != nil {
		t.Errorf("never set: got an error bound of %v (%v), want null", bound, err)
	}
	if out, _, err := never.Run("status"); err != nil || !strings.Contains(out, "error not known") {
		t.Errorf("status: got %q, %v", out, err)
	}
	if _, complaint, err := never.Run("wait", "--max-error", "1us", "--timeout", "1s"); exitStatus(err) != 1 || !strings.Contains(complaint, "not known") {
		t.Errorf("wait: got %v, %q, want 1 and why", err, complaint)
	}

	at := freePort(t)
	server := start(t, serverConfig(at, "0s"))
	once := start(t, fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 20ms}}\nlocal: {stratum: 10}\nsources: [{server: \"%s\", min_poll: -3, max_poll: -3}]\n", at))
	bound := func() float64 {
		answer, err := once.report("tracking")
		if err != nil {
			return -1
		}
		b, _ := answer["error_bound"].(float64)
		return b
	}
	once.until("it is set", func() bool {
		answer, err := once.report("tracking")
		return err == nil && answer["state"] == "sync"
	})
	server.kill()
	once.until("the local clock is served", func() bool {
		answer, err := once.report("tracking")
		return err == nil && answer["state"] == "local"
	})
	first := -1.0
	once.until("the bound is told", func() bool { first = bound(); return first > 0 })
	once.until("the bound grows", func() bool { return bound() > first })
}
