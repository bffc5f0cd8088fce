package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"timeball/internal/responder"
	"timeball/internal/wire"
)

// leapOf asks the daemon for the time and returns what it says of its leap state;
// false, it says nothing.
func (w *world) leapOf() (wire.Leap, bool) {
	w.t.Helper()
	reply := exchange(w.t, w.d.Addresses()[0], request(wire.ModeClient))
	if len(reply) < 48 {
		return 0, false
	}
	return wire.Leap(reply[0] >> 6), true
}

// openntpd turns away for an hour from a server that says leap 3.
func TestAServerWithoutATimeIsSilentAtItsStart(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	s.silent.Store(true)
	w := start(t, sourceText(s.addr)+"server: {listen: [\"127.0.0.1:0\"], silent_start: 1h}\n")
	if leap, answered := w.leapOf(); answered {
		t.Errorf("before the first synchronization: got an answer with leap %v, want silence", leap)
	}
	starting := w.d.ports.Counters()
	if got := starting.Reasons[responder.ReasonStarting]; got != 1 {
		t.Errorf("got %d requests counted as starting, want 1", got)
	}
	s.silent.Store(false)
	until(t, "synchronized", w.synchronized)
	until(t, "an answer with the time", func() bool {
		leap, answered := w.leapOf()
		return answered && leap != wire.LeapUnknown
	})
}

func TestTheSilenceOfAStartEnds(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	s.silent.Store(true)
	for _, test := range []struct{ name, text string }{
		{"after its time", sourceText(s.addr) + "server: {listen: [\"127.0.0.1:0\"], silent_start: 100ms}\n"},
		{"where there is none", sourceText(s.addr) + "server: {listen: [\"127.0.0.1:0\"], silent_start: 0s}\n"},
		{"where nobody tells the time", "server: {listen: [\"127.0.0.1:0\"], silent_start: 1h}\n"},
	} {
		w := start(t, test.text)
		until(t, "an answer "+test.name, func() bool {
			leap, answered := w.leapOf()
			if answered && leap != wire.LeapUnknown {
				t.Errorf("%s: got leap %v, want 3", test.name, leap)
			}
			return answered
		})
	}
}

func TestAReloadTakesTheSilenceOver(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	s.silent.Store(true)
	path := filepath.Join(t.TempDir(), "timeball.yaml")
	w := start(t, sourceText(s.addr)+"server: {listen: [\"127.0.0.1:0\"], silent_start: 1h}\n", func(o *Options) { o.Path = path })
	rest := "control: {socket: " + w.socket() + "}\nclock: {driver: virtual}\n"
	if err := os.WriteFile(path, []byte(sourceText(s.addr)+"server: {listen: [\"127.0.0.1:0\"], silent_start: 0s}\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	w.d.Reload(t.Context())
	if leap, answered := w.leapOf(); !answered || leap != wire.LeapUnknown {
		t.Errorf("silent_start: 0s: got answered %v with leap %v, want leap 3", answered, leap)
	}
}
