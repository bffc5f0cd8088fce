package netio

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

const (
	// settle is how long a burst of changes may last: an interface that comes up tells
	// of its link, its state and each address in turn.
	settle = 200 * time.Millisecond
	// lookEvery is how often the interfaces are looked at where the system does not
	// tell of changes, and in case it failed to.
	lookEvery = 15 * time.Second
)

// Monitor tells when interfaces or addresses of this host come or go.
type Monitor struct {
	socket monitorSocket
	last   string
}

// monitorSocket waits until something may have changed or the deadline is over.
type monitorSocket interface {
	wait(deadline time.Time) error
	interrupt()
	close() error
}

// OpenMonitor begins to watch; changes from here on are told by Run.
func OpenMonitor() (*Monitor, error) {
	socket, err := openMonitorSocket()
	if err != nil {
		return nil, fmt.Errorf("watch the interfaces: %w", err)
	}
	m := &Monitor{socket: socket}
	m.last = m.look()
	return m, nil
}

// Run calls changed after every change of the interfaces and addresses, once for those
// that come in a burst, until ctx is done; then it closes the Monitor and returns nil.
func (m *Monitor) Run(ctx context.Context, changed func()) error {
	stop := context.AfterFunc(ctx, m.socket.interrupt)
	defer stop()
	for ctx.Err() == nil {
		if err := m.socket.wait(time.Now().Add(lookEvery)); err != nil && ctx.Err() == nil {
			_ = m.socket.close()
			return fmt.Errorf("watch the interfaces: %w", err)
		}
		now := m.look()
		if now == m.last || ctx.Err() != nil {
			continue
		}
		for end := time.Now().Add(settle); time.Now().Before(end) && ctx.Err() == nil; {
			if err := m.socket.wait(end); err != nil {
				break // told by the next wait
			}
		}
		m.last = m.look()
		changed()
	}
	return m.socket.close()
}

// look describes the interfaces and addresses as they are.
func (m *Monitor) look() string {
	ifs, err := net.Interfaces()
	if err != nil {
		return m.last // unknown is no change
	}
	var b strings.Builder
	for _, i := range ifs {
		fmt.Fprintf(&b, "%d %s %s", i.Index, i.Name, i.Flags)
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone meanwhile
		}
		for _, a := range addrs {
			fmt.Fprintf(&b, " %s", a)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
