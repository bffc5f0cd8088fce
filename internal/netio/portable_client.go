package netio

import (
	"net"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// portableClient is a client socket with what Go offers on every system: our own
// readings of the clock stand for stamps.
type portableClient struct {
	cfg  *ClientConfig
	conn *net.UDPConn
}

func dialPortable(cfg *ClientConfig, port uint16) (*net.UDPConn, clientSocket, error) {
	conn, err := dialUDP(cfg, port, func(fd int) error { return bindToInterface(fd, cfg) })
	if err != nil {
		return nil, nil, err
	}
	return conn, &portableClient{cfg: cfg, conn: conn}, nil
}

func (c *portableClient) send(b []byte, _ uint32) (ntptime.Instant, error) {
	at := c.cfg.Clock.Now()
	_, err := c.conn.Write(b)
	if err != nil && isUnreachable(unwrapErrno(err)) {
		at = c.cfg.Clock.Now()
		_, err = c.conn.Write(b) // the first was about an earlier datagram
	}
	return at, err
}

func (c *portableClient) read(buf []byte, rx *model.Received) (Event, error) {
	// One octet more than the caller takes tells what is too long.
	data := make([]byte, len(buf)+1)
	for {
		n, err := c.conn.Read(data)
		at := c.cfg.Clock.Now()
		if err != nil {
			return Event{}, err
		}
		if n > len(buf) {
			continue
		}
		local := c.conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		*rx = model.Received{Data: buf[:copy(buf, data[:n])], Remote: c.cfg.Remote, Local: local, At: at, Stamp: model.StampDaemon}
		return Event{}, nil
	}
}
