package metrics

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve runs a server until the test ends; change may shorten its times.
func serve(t *testing.T, change func(*http.Server)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(New(someDaemon(), nil))
	if change != nil {
		change(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// get scrapes over a connection of its own.
func get(t *testing.T, address string) {
	t.Helper()
	c := connect(t, address)
	defer c.Close()
	fmt.Fprintf(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 || !strings.Contains(string(body), "ntp_system_synchronized 1") {
		t.Fatalf("got status %d, %v", response.StatusCode, err)
	}
}

// Threat 26: slow clients and a thousand scrapes.
func TestSlowAndSilentClientsKeepNobodyOut(t *testing.T) {
	address := serve(t, nil)
	for i := range 200 {
		c := connect(t, address)
		if i%2 == 0 {
			io.WriteString(c, "GET /metrics HT")
		}
	}
	get(t, address)
}

func TestAThousandScrapes(t *testing.T) {
	address := serve(t, nil)
	client := &http.Client{Timeout: 20 * time.Second}
	for range 1000 {
		response, err := client.Get("http://" + address + "/")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	get(t, address)
}

func TestClientThatStopsHalfWayIsClosed(t *testing.T) {
	address := serve(t, func(s *http.Server) { s.ReadHeaderTimeout = 10 * time.Millisecond })
	c := connect(t, address)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: ")
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection stays open: %v", err)
	}
}

func TestEveryStageOfAConnectionHasALimit(t *testing.T) {
	s := NewServer(http.NotFoundHandler())
	for what, limit := range map[string]time.Duration{"header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout} {
		if limit <= 0 || limit > 12*time.Second {
			t.Errorf("%s: got %v, want at most 12 s", what, limit)
		}
	}
}

func TestGarbageIsAnswered400AndClosed(t *testing.T) {
	address := serve(t, nil)
	for _, garbage := range []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x00\x00\x00\x00\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 3*maxHeader) + "\r\n\r\n",
	} {
		c := connect(t, address)
		io.WriteString(c, garbage)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 4") && !strings.HasPrefix(line, "HTTP/1.1 5") {
			t.Errorf("%.20q: got %q, %v, want a refusal", garbage, line, err)
		}
		c.Close()
	}
	get(t, address)
}

func TestWithTooManyConnectionsTheOldestGoes(t *testing.T) {
	crowd := &crowd{since: make(map[net.Conn]time.Time)}
	var ends []net.Conn
	for i := range maxConnections + 10 {
		here, there := net.Pipe()
		ends = append(ends, there)
		crowd.follow(here, http.StateNew)
		if i == 0 {
			crowd.follow(here, http.StateActive)
		}
		crowd.since[here] = time.Unix(int64(i), 0)
	}
	if n := len(crowd.since); n != maxConnections {
		t.Errorf("got %d connections, want %d", n, maxConnections)
	}
	for i, c := range ends {
		c.SetReadDeadline(time.Now())
		_, err := c.Read(make([]byte, 1))
		if closed := err == io.EOF; closed != (i < 10) {
			t.Errorf("connection %d: got %v", i, err)
		}
	}
	here, _ := net.Pipe() // a state of one that has been dropped brings it not back
	crowd.follow(here, http.StateIdle)
	crowd.follow(here, http.StateClosed)
	if n := len(crowd.since); n != maxConnections {
		t.Errorf("after late states: got %d connections, want %d", n, maxConnections)
	}
}
