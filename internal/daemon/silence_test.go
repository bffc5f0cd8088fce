package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"timeball/internal/responder"
	"timeball/internal/wire"
)

// leapOf is the leap state of a reply.
func leapOf(reply []byte) wire.Leap { return wire.Leap(reply[0] >> 6) }

// untilLeap asks the daemon for the time until it answers with a leap state that is proper.
func (w *world) untilLeap(what string, proper func(wire.Leap) bool) {
	w.t.Helper()
	conn := dial(w.t, w.d.Addresses()[0])
	defer conn.Close()
	untilAnswer(w.t, what, conn, func(reply []byte) bool { return isTime(reply) && proper(leapOf(reply)) })
}

// openntpd turns away for an hour from a server that says leap 3.
func TestAServerWithoutATimeIsSilentAtItsStart(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	s.silent.Store(true)
	w := start(t, sourceText(s.addr)+"server: {listen: [\"127.0.0.1:0\"], silent_start: 1h}\n")
	if reply := unanswered(t, w.d.Addresses()[0], request(wire.ModeClient)); reply != nil {
		t.Errorf("before the first synchronization: got an answer with leap %v, want silence", leapOf(reply))
	}
	w.settle(1)
	starting := w.d.ports.Counters()
	if got := starting.Reasons[responder.ReasonStarting]; got != 1 {
		t.Errorf("got %d requests counted as starting, want 1", got)
	}
	s.silent.Store(false)
	until(t, "synchronized", w.synchronized)
	w.untilLeap("an answer with the time", func(leap wire.Leap) bool { return leap != wire.LeapUnknown })
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
		w.untilLeap("an answer "+test.name, func(leap wire.Leap) bool {
			if leap != wire.LeapUnknown {
				t.Errorf("%s: got leap %v, want 3", test.name, leap)
			}
			return true
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
	if reply := exchange(t, w.d.Addresses()[0], request(wire.ModeClient)); len(reply) != 48 || leapOf(reply) != wire.LeapUnknown {
		t.Errorf("silent_start: 0s: got % x, want an answer with leap 3", reply)
	}
}
