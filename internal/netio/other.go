//go:build !linux

package netio

import (
	"fmt"
	"net"
	"time"
)

func openShards(cfg ListenConfig) ([]socket, error) { return openPortable(cfg) }

func dialClient(cfg *ClientConfig, port uint16) (*net.UDPConn, clientSocket, error) {
	return dialPortable(cfg, port)
}

// bindToInterface refuses what has no portable form; a source address does as well.
func bindToInterface(_ int, cfg *ClientConfig) error {
	if cfg.Interface == "" {
		return nil
	}
	return fmt.Errorf("interface %s: cannot be chosen on this system; give a source address", cfg.Interface)
}

// idler waits for nothing but time.
type idler struct{ done chan struct{} }

func openMonitorSocket() (monitorSocket, error) { return &idler{done: make(chan struct{})}, nil }

func (i *idler) wait(deadline time.Time) error {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-i.done:
		return net.ErrClosed
	}
}

func (i *idler) interrupt() { close(i.done) }

func (i *idler) close() error { return nil }

// SystemCards refuses: other systems have no such interface.
func SystemCards() CardSystem { return noCards{} }

type noCards struct{}

func (noCards) Enable(string) (int, func() error, error) {
	return 0, nil, fmt.Errorf("not on this system")
}

func (noCards) Open(int) (CardClock, error) { return nil, fmt.Errorf("not on this system") }
