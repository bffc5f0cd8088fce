package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo answers with the request; "fail" with an error, "broken" with what is no JSON.
var echo = HandlerFunc(func(ctx context.Context, r Request) (any, error) {
	switch r.Command {
	case "fail":
		return nil, errors.New("it cannot be done")
	case "broken":
		return make(chan int), nil
	}
	return r, nil
})

// start serves at a socket of its own until the test ends.
func start(t *testing.T, h Handler) (path string) {
	t.Helper()
	path, serve := listening(t, h, idleTimeout)
	serve()
	return path
}

// listening is a socket of its own at which serve, once it is called, serves until the test ends.
func listening(t *testing.T, h Handler, idle time.Duration) (path string, serve func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run", "s.sock")
	s, err := Listen(path, DefaultMode, h)
	if err != nil {
		t.Fatal(err)
	}
	s.idle = idle
	return path, func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the socket is left behind: %v", err)
			}
		})
	}
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// answer reads one line of a connection.
func answer(t *testing.T, c net.Conn) response {
	t.Helper()
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no answer: %v (%q)", err, line)
	}
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("answer %q: %v", line, err)
	}
	return r
}

func TestCallBringsTheAnswerBack(t *testing.T) {
	path := start(t, echo)
	want := Request{Command: "sources", Source: "a", Verbose: true, Args: map[string]string{"order": "hits"}}
	raw, err := Call(t.Context(), path, want)
	if err != nil {
		t.Fatal(err)
	}
	var got Request
	if err := json.Unmarshal(raw, &got); err != nil || got.Command != want.Command || got.Args["order"] != "hits" || !got.Verbose {
		t.Errorf("got %s, %v, want %+v", raw, err, want)
	}
}

func TestDaemonsErrorComesBackInItsWords(t *testing.T) {
	path := start(t, echo)
	_, err := Call(t.Context(), path, Request{Command: "fail"})
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Text != "it cannot be done" {
		t.Errorf("got %v, want the handler's error", err)
	}
	if _, err := Call(t.Context(), path, Request{Command: "broken"}); !errors.As(err, &remote) {
		t.Errorf("a result that is no JSON: got %v, want an error", err)
	}
}

func TestCallWithoutADaemonSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := Call(t.Context(), path, Request{Command: "ping"}); err == nil || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("no socket: got %v", err)
	}
	leaveDeadSocket(t, path)
	if _, err := Call(t.Context(), path, Request{Command: "ping"}); err == nil || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("dead socket: got %v", err)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	path := start(t, HandlerFunc(func(ctx context.Context, r Request) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := Call(ctx, path, Request{Command: "ping"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestOneConnectionMayAskAgain(t *testing.T) {
	c := dial(t, start(t, echo))
	lines := bufio.NewReader(c)
	for range 3 {
		c.Write([]byte(`{"command":"ping"}` + "\n"))
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"ping"`) {
			t.Fatalf("got %q, %v", line, err)
		}
	}
}

// Threat 39: garbage, a long line, half a request.
func TestWhatIsNoRequestDrawsAnErrorAndTheEnd(t *testing.T) {
	path := start(t, echo)
	for what, text := range map[string]string{
		"garbage":        "\x00\xff\x13\n",
		"HTTP":           "GET / HTTP/1.1\r\n\r\n",
		"no command":     "{}\n",
		"unknown field":  `{"command":"ping","evil":1}` + "\n",
		"wrong type":     `{"command":7}` + "\n",
		"an array":       `["ping"]` + "\n",
		"two values":     `{"command":"ping"} {"command":"ping"}` + "\n",
		"empty line":     "\n",
		"4 MB line":      strings.Repeat("x", 4<<20) + "\n",
		"deep nesting":   strings.Repeat("[", 60000) + "\n",
		"65 kB of blank": strings.Repeat(" ", 65<<10) + "\n",
	} {
		c := dial(t, path)
		c.Write([]byte(text)) // of the long ones a part only; that is an error here, not there
		if r := answer(t, c); r.Error == "" || r.Result != nil || strings.Contains(r.Error, "\n") {
			t.Errorf("%s: got %+v, want an error", what, r)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: the connection stays open", what)
		}
	}
	if _, err := Call(t.Context(), path, Request{Command: "ping"}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestHalfARequestAtTheEndIsAnError(t *testing.T) {
	c := dial(t, start(t, echo)).(*net.UnixConn)
	c.Write([]byte(`{"command":"pi`))
	c.CloseWrite()
	if r := answer(t, c); !strings.Contains(r.Error, "not a request") {
		t.Errorf("got %+v", r)
	}
}

func TestRequestThatDoesNotComeInTimeIsClosed(t *testing.T) {
	path, serve := listening(t, echo, 20*time.Millisecond)
	c := dial(t, path)
	c.Write([]byte(`{"command":`)) // before the time begins to run
	serve()
	if r := answer(t, c); r.Error == "" {
		t.Errorf("got %+v, want an error for what came", r)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the connection closed", err)
	}
}

func TestTwoHundredIdleClientsShutNobodyOut(t *testing.T) {
	path := start(t, echo)
	for range 200 {
		dial(t, path)
	}
	if _, err := Call(t.Context(), path, Request{Command: "ping"}); err != nil {
		t.Errorf("got %v, want an answer", err)
	}
}

func TestWhenAllAreBusyTheNewOneIsToldSo(t *testing.T) {
	var busy sync.WaitGroup
	busy.Add(maxConnections)
	path := start(t, HandlerFunc(func(ctx context.Context, r Request) (any, error) {
		busy.Done()
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	for range maxConnections {
		dial(t, path).Write([]byte(`{"command":"ping"}` + "\n"))
	}
	busy.Wait()
	if r := answer(t, dial(t, path)); !strings.Contains(r.Error, "too many") {
		t.Errorf("got %+v, want to be told", r)
	}
}

// leaveDeadSocket makes a socket as a killed process leaves it.
func leaveDeadSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestDeadSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	leaveDeadSocket(t, path)
	s, err := Listen(path, DefaultMode, echo)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestSecondDaemonIsRefusedAndTheFirstUnharmed(t *testing.T) {
	path := start(t, echo)
	if s, err := Listen(path, DefaultMode, echo); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v, %v, want ErrRunning", s, err)
	}
	if _, err := Call(t.Context(), path, Request{Command: "ping"}); err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestWhatIsNoSocketIsNeverRemoved(t *testing.T) {
	dir := t.TempDir()
	file, folder, link := filepath.Join(dir, "file"), filepath.Join(dir, "folder"), filepath.Join(dir, "link")
	os.WriteFile(file, []byte("precious"), 0o600)
	os.Mkdir(folder, 0o755)
	os.Symlink(file, link)
	for _, path := range []string{file, folder, link} {
		if _, err := Listen(path, DefaultMode, echo); err == nil || !strings.Contains(err.Error(), "is no socket") {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if text, _ := os.ReadFile(file); string(text) != "precious" {
		t.Errorf("the file is gone: %q", text)
	}
}

func TestSocketHasItsModeWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	for _, mode := range []fs.FileMode{0o660, 0o600, 0o666} {
		path := filepath.Join(t.TempDir(), "s")
		s, err := Listen(path, mode, echo)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("got %v, %v, want %v", info.Mode().Perm(), err, mode)
		}
		s.Close()
	}
}

func TestImpossiblePathIsAnErrorInWords(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{
		filepath.Join(dir, strings.Repeat("x", 120)),
		filepath.Join(dir, "missing", "missing", "s"),
	} {
		if _, err := Listen(path, DefaultMode, echo); err == nil || !strings.HasPrefix(err.Error(), "control socket") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestCloseLeavesAnotherDaemonsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Listen(path, DefaultMode, echo)
	if err != nil {
		t.Fatal(err)
	}
	os.Rename(path, path+".old") // somebody has taken the place in between
	second, err := Listen(path, DefaultMode, echo)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second's socket is gone: %v", err)
	}
	second.Close()
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{`{"command":"ping"}`, `{"command":"explain","source":"a","verbose":true,"args":{"a":"b"}}`, "{}", "", "null",
		`{"command":"a"}{}`, "[[[[", "\x00", `{"command":"\ud800"}`, `{"Command":"x","command":"y"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		if err != nil {
			if out := encode(nil, err); bytes.Count(out, []byte("\n")) != 1 || len(out) > 2*len(line)+500 {
				t.Errorf("error line for %q: %q", line, out)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseRequest(again); err != nil || back.Command != r.Command || back.Source != r.Source {
			t.Errorf("%q comes back as %+v, %v", line, back, err)
		}
	})
}
