//go:build !linux

package netio

import (
	"fmt"
	"net"
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
