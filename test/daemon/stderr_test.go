package daemon

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"timeball/test/peers"
)

// unread starts a daemon whose standard error is a pipe that is full and that nobody reads.
func unread(t *testing.T, conf string) (p *daemon, reader *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	if err := writer.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = writer.Write([]byte(strings.Repeat("x", 4096)))
	}
	h := peers.Here(t)
	config := h.Write("timeball.yaml", conf+"control: {socket: "+h.Dir+"/timeball.sock}\n")
	cmd := exec.Command(peers.Binary(t), "run", "--config", config)
	// A file of its own, in blocking mode as a supervisor's would be.
	raw, err := syscall.Dup(int(writer.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetNonblock(raw, false); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.NewFile(uintptr(raw), "stderr")
	writer.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr.(*os.File).Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	process := h.Adopt("timeball", cmd, ended)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		process.Ends(patience)
	})
	return &daemon{&peers.Daemon{Process: process}, t}, reader
}

// Standard error that nobody reads stops neither the time, nor reports, nor the end.
func TestStandardErrorThatNobodyReads(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	server, _ := unread(t, serverConfig(at, "0s")+"log: {level: debug}\n")
	client, reader := unread(t, clientConfig(at, t.TempDir(), ", virtual: {offset: 200ms}")+"log: {level: debug}\n")
	server.until("served", func() bool { return server.answers(at) })
	client.until("synchronized", client.synchronized)
	for _, p := range []*daemon{server, client} {
		begun := time.Now()
		p.Signal(syscall.SIGHUP)
		if status := p.terminate(); status != 0 || time.Since(begun) > prompt {
			t.Errorf("the end: status %d after %v, want 0 within %s", status, time.Since(begun), prompt)
		}
	}
	_ = reader
}

// Standard error whose reader has gone ends nothing.
func TestStandardErrorWhoseReaderIsGone(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	p, reader := unread(t, serverConfig(at, "0s")+"log: {level: debug}\n")
	p.until("served", func() bool { return p.answers(at) })
	reader.Close()
	p.Signal(syscall.SIGHUP)
	p.serves(at, "served still", 20)
	p.until("reports", func() bool { _, err := p.report("tracking"); return err == nil })
	if status := p.terminate(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

// To the journal each line has its priority, and no time, which the journal has; elsewhere
// it has a time.
func TestPrioritiesForTheJournal(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"console", "json"} {
		conf := "log: {format: " + format + "}\nclock: {driver: virtual}\nsources: [{server: '127.0.0.1:9'}]\n" // one source: a warning
		p := launch(t, conf, "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2);")
		p.Says(patience, "timeball runs")
		for line := range strings.Lines(p.Log()) {
			priority := "<6>"
			if regexp.MustCompile(`WARN|"warn"`).MatchString(line) {
				priority = "<4>"
			}
			if !strings.HasPrefix(line, priority) || regexp.MustCompile(`\d\d:\d\d:\d\d`).MatchString(line) {
				t.Errorf("%s: got %q, want %s in front and no time", format, line, priority)
			}
		}
		p.Says(patience, "<4>") // the warning's priority
		other := launch(t, conf, "export JOURNAL_STREAM=1:2;")
		other.until("it says something", func() bool { return other.Log() != "" })
		if text := other.Log(); strings.HasPrefix(text, "<") || !regexp.MustCompile(`\d\d:\d\d:\d\d`).MatchString(text) {
			t.Errorf("%s, not to the journal: got %q, want a time and no priority", format, text)
		}
	}
}
