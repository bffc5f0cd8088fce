package metrics

import (
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of a client of the listener. Nobody can hold a connection for longer than
// headerTimeout + writeTimeout + idleTimeout, or keep others out by holding many.
const (
	maxConnections = 512
	headerTimeout  = 3 * time.Second
	readTimeout    = 4 * time.Second
	writeTimeout   = 10 * time.Second
	idleTimeout    = 10 * time.Second
	maxHeader      = 16 << 10 // bytes
)

// NewServer returns a server for the handler of New that slow, silent and many
// clients do no harm to. Its Serve, Shutdown and Close are those of net/http.
func NewServer(h http.Handler) *http.Server {
	crowd := &crowd{since: make(map[net.Conn]time.Time)}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         crowd.follow,
		ErrorLog:          log.New(io.Discard, "", 0), // a line per bad request would let anybody fill the log
	}
}

// crowd bounds the connections: when there are too many, the one that has not stirred
// for longest is closed. A request takes milliseconds, so that is never an honest one.
type crowd struct {
	mu    sync.Mutex
	since map[net.Conn]time.Time // last change of state
}

func (c *crowd) follow(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(c.since) >= maxConnections {
			c.dropOldest()
		}
		c.since[conn] = time.Now()
	case http.StateClosed, http.StateHijacked:
		delete(c.since, conn)
	default:
		if _, there := c.since[conn]; there { // else it has just been dropped
			c.since[conn] = time.Now()
		}
	}
}

func (c *crowd) dropOldest() {
	var oldest net.Conn
	for conn, since := range c.since {
		if oldest == nil || since.Before(c.since[oldest]) {
			oldest = conn
		}
	}
	delete(c.since, oldest)
	oldest.Close()
}
