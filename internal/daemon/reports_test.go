package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"timeball/internal/control"
	"timeball/internal/model"
	"timeball/internal/wire"
)

func (w *world) socket() string { return w.d.config.Load().Control.Socket }

// call asks the daemon one thing.
func call[T any](w *world, r control.Request) T {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	raw, err := control.Call(ctx, w.socket(), r)
	if err != nil {
		w.t.Fatalf("%s: %v", r.Command, err)
	}
	var answer T
	if err := json.Unmarshal(raw, &answer); err != nil {
		w.t.Fatalf("%s: %v", r.Command, err)
	}
	return answer
}

func TestEveryReportIsAnswered(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	w := start(t, sourceText(s.addr)+serverText)
	until(t, "synchronized", w.synchronized)
	w.mustServe()
	if got := call[string](w, control.Request{Command: control.CommandPing}); got != "pong" {
		t.Errorf("ping: got %q", got)
	}
	if got := call[control.Daemon](w, control.Request{Command: control.CommandVersion}); got.Version != "test" || got.Uptime <= 0 {
		t.Errorf("version: got %+v", got)
	}
	if got := call[control.Status](w, control.Request{Command: control.CommandStatus}); !got.Synchronized || len(got.Sources) != 1 {
		t.Errorf("status: got synchronized %v with %d sources, want true with 1", got.Synchronized, len(got.Sources))
	}
	if got := call[control.Tracking](w, control.Request{Command: control.CommandTracking}); got.Stratum != 2 || got.Address != s.addr.String() {
		t.Errorf("tracking: got stratum %d of %s, want 2 of %s", got.Stratum, got.Address, s.addr)
	}
	if got := call[control.Sources](w, control.Request{Command: control.CommandSources}); len(got.Sources) != 1 || got.Sources[0].State != "selected" {
		t.Errorf("sources: got %+v", got)
	}
	if got := call[control.Explain](w, control.Request{Command: control.CommandExplain, Source: s.addr.String()}); len(got.Sources) != 1 || len(got.Sources[0].Checks) == 0 {
		t.Errorf("explain: got %+v, want the tests of one source", got)
	}
	if got := call[control.ServerStats](w, control.Request{Command: control.CommandServerStats}); len(got.Listeners) != 1 || got.Listeners[0].Accepted == 0 {
		t.Errorf("serverstats: got %+v", got)
	}
	if got := call[control.Clients](w, control.Request{Command: control.CommandClients}); got.Total != 1 || len(got.Clients) != 1 {
		t.Errorf("clients: got %+v, want one", got)
	}
	if got := call[control.Associations](w, control.Request{Command: control.CommandAssociations}); len(got.Associations) != 1 || got.Associations[0].Mode != "client" {
		t.Errorf("associations: got %+v", got)
	}
}

func TestWrongQuestionsAreToldSo(t *testing.T) {
	w := start(t, localServer)
	for _, test := range []struct {
		request control.Request
		want    string
	}{
		{control.Request{Command: "reboot"}, "no report"},
		{control.Request{Command: control.CommandExplain, Source: "nobody"}, "no source"},
		{control.Request{Command: control.CommandClients, Args: map[string]string{"count": "-1"}}, "not a number"},
		{control.Request{Command: control.CommandClients, Args: map[string]string{"count": "many"}}, "not a number"},
		{control.Request{Command: control.CommandClients, Args: map[string]string{"order": "beauty"}}, "order"},
	} {
		_, err := control.Call(context.Background(), w.socket(), test.request)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.request, err, test.want)
		}
	}
}

// Threat 39: whatever comes by the control socket, the port serves on.
func TestTheControlSocketUnderAbuse(t *testing.T) {
	w := start(t, localServer)
	open := func() net.Conn {
		c, err := net.Dial("unix", w.socket())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for name, text := range map[string]string{
		"garbage": "\x00\xff\x80garbage\n", "half a request": `{"command": "sta`, "a long line": strings.Repeat("a", 4<<20) + "\n",
		"a bomb": strings.Repeat("[", 60000) + "\n", "empty lines": strings.Repeat("\n", 1000),
	} {
		c := open()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write([]byte(text))
		if name == "half a request" {
			continue // it stays open
		}
		line, _ := bufio.NewReader(c).ReadString('\n')
		if line != "" && !strings.Contains(line, "error") {
			t.Errorf("%s: got %.80q, want an error or nothing", name, line)
		}
	}
	for range 200 {
		open()
	}
	w.mustServe()
	if got := call[string](w, control.Request{Command: control.CommandPing}); got != "pong" {
		t.Errorf("a proper client: got %q, want pong", got)
	}
}

// Threat 26: slow clients of the metrics keep nobody out.
func TestTheMetricsUnderSlowClients(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	w := start(t, sourceText(s.addr)+serverText+"metrics: {listen: \"127.0.0.1:0\"}\n")
	until(t, "synchronized", w.synchronized)
	address := w.d.metrics.Load().listener.Addr().String()
	until(t, "answers while the slow ones are still connected", func() bool {
		var last net.Conn
		for i := range 200 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if last = c; i%2 == 1 {
				fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: ")
			}
		}
		for _, path := range []string{"/metrics", "/"} {
			if status, err := get("http://" + address + path); err != nil || status != 200 {
				t.Fatalf("%s: got %d, %v, want 200", path, status, err)
			}
		}
		_ = last.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := last.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded)
	})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 25 {
				_, _ = get("http://" + address + "/metrics")
			}
		})
	}
	wait.Wait()
	w.mustServe()
}

// An operator sees every packet that was given up, and why.
func TestDropsAreReported(t *testing.T) {
	w := start(t, localServer)
	conn := dial(t, w.d.Addresses()[0])
	defer conn.Close()
	if _, err := conn.Write(make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	r := &runner{packets: make(chan model.Received, 1), port: w.d.ports}
	for range 3 {
		r.take(&model.Received{})
	}
	until(t, "the long datagram is counted", func() bool {
		got := call[control.ServerStats](w, control.Request{Command: control.CommandServerStats})
		return got.Listeners[0].Drops.Truncated == 1 && got.AssociationDrops == 2
	})
	source := metricsSource{w.d}
	if got := source.Server().Listeners[0].Truncated; got != 1 {
		t.Errorf("metrics: got %d truncated, want 1", got)
	}
	if got := source.Process().AssociationDrops; got != 2 {
		t.Errorf("metrics: got %d dropped for associations, want 2", got)
	}
}

func TestTheMetricsShowWhatTheDaemonDoes(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	w := start(t, sourceText(s.addr)+serverText)
	until(t, "synchronized", w.synchronized)
	w.mustServe()
	source := metricsSource{w.d}
	if p := source.Process(); p.Version != "test" || p.Uptime <= 0 || p.LastReload == 0 || p.ReloadFailed {
		t.Errorf("process: got %+v", p)
	}
	if m := source.Server(); m == nil || len(m.Listeners) != 1 || m.Listeners[0].Counters.Received() == 0 || m.Clients.Clients != 1 {
		t.Errorf("server: got %+v, want one listener with requests of one client", m)
	}
	if s := source.Snapshot(); s == nil || !s.Synchronized {
		t.Errorf("snapshot: got %+v", s)
	}
	client := start(t, "selection: {max_distance: 1s}\n")
	if m := (metricsSource{client.d}).Server(); m != nil {
		t.Errorf("without a server section: got %+v, want nil", m)
	}
}

// Mode 6 from one who may ask is answered; see the interop tests for real askers.
func TestAControlQueryIsAnswered(t *testing.T) {
	w := start(t, localServer)
	until(t, "synchronized", w.synchronized)
	readvar := []byte{0x16, 0x02, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0} // version 2, opcode 2, sequence 1
	reply := exchange(t, w.d.Addresses()[0], readvar)
	if len(reply) < 12 || wire.Mode(reply[0]&7) != wire.ModeControl || reply[1]&0x80 == 0 {
		t.Fatalf("got % x, want a response of mode 6", reply)
	}
	if text := string(reply[12:]); !strings.Contains(text, "stratum=1") {
		t.Errorf("got %q, want the system variables", text)
	}
	if again := unanswered(t, w.d.Addresses()[0], reply); again != nil {
		t.Errorf("its own response fed back: got %d bytes, want silence", len(again))
	}
}

// A source that cannot be asked, as there is no socket to ask from, is not called silent.
func TestExplainSaysWhyNothingCanBeSent(t *testing.T) {
	w := start(t, `
sources:
  - {peer: 127.0.57.1, unauthenticated: true}
  - {server: 127.0.57.2, interface: nowhere0}
server: {listen: ["192.0.2.1:1123"]}
`)
	for source, want := range map[string]string{
		"127.0.57.1": "it cannot be asked: no NTP port for 127.0.57.1:123 yet: 192.0.2.1:1123, of server.listen: this machine does not have the address at present",
		"127.0.57.2": "it cannot be asked: ",
	} {
		until(t, "the reason of "+source, func() bool {
			for _, e := range call[control.Explain](w, control.Request{Command: control.CommandExplain}).Sources {
				if e.Name == source {
					return strings.HasPrefix(e.Reason, want)
				}
			}
			return false
		})
	}
	if got := w.log.FilterMessageSnippet("will go on trying").Len(); got != 2 {
		t.Errorf("got %d lines, want one for each source", got)
	}
}
