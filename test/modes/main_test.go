package modes

import (
	"testing"
	"time"

	"timeball/test/peers"
)

func TestMain(m *testing.M) { peers.Main(m) }

// within looks at something again and again for a while; the first error ends it.
func within(during time.Duration, look func() error) error {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(during); time.Now().Before(end); <-ticker.C {
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}

// The configurations' common parts: a server whose time is this machine's, and a clock
// that starts wrong.
const (
	reference  = "local: {stratum: 3}\nclock: {driver: observe}\n"
	wrongClock = "clock: {driver: virtual, virtual: {offset: 100ms, frequency: 20ppm}}\n"
)
