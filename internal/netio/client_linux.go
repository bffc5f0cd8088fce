package netio

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// clientSocket is a client socket with kernel timestamps.
type clientSocket struct {
	cfg     *ClientConfig
	raw     syscall.RawConn
	v6      bool
	pending pendingTimestamps
	control [controlSpace]byte
	errData []byte // a datagram of ours that comes back with its timestamp
	mapping control
}

func dialClient(cfg *ClientConfig, port uint16) (*net.UDPConn, *clientSocket, error) {
	keepTimestamping()
	c := &clientSocket{cfg: cfg, v6: cfg.Remote.Addr().Is6()}
	conn, err := dialUDP(cfg, port, c.configure)
	if err != nil {
		return nil, nil, err
	}
	if c.raw, err = conn.SyscallConn(); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, c, nil
}

// configure sets the options before the bind.
func (c *clientSocket) configure(fd int) error {
	if err := setOptions(fd, commonOptions(c.v6, c.cfg.Hardware != nil)); err != nil {
		return err
	}
	return bindToInterface(fd, c.cfg)
}

// bindToInterface lets a socket send and receive by one interface alone.
func bindToInterface(fd int, cfg *ClientConfig) error {
	if cfg.Interface == "" {
		return nil
	}
	return os.NewSyscallError("setsockopt SO_BINDTODEVICE "+cfg.Interface, unix.BindToDevice(fd, cfg.Interface))
}

func (c *clientSocket) send(b []byte, sequence uint32) (ntptime.Instant, error) {
	var room [controlSpace]byte
	controls := room[:0]
	want := !c.cfg.NoTransmitTimestamps && c.pending.add(b, Token{ID: sequence})
	if want {
		ask := uint32(askSoftware)
		if c.cfg.Hardware != nil {
			ask |= askHardware
		}
		controls = appendTimestamping(controls, ask)
	}
	var at ntptime.Instant
	var err error
	if e := c.raw.Control(func(fd uintptr) {
		at = c.cfg.Clock.Now()
		err = sendDatagram(int(fd), b, controls, nil)
	}); e != nil {
		err = e
	}
	if err != nil && want {
		c.pending.forget(Token{ID: sequence})
	}
	return at, err
}

func (c *clientSocket) read(buf []byte, rx *model.Received) (Event, error) {
	var event Event
	var failed error
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			done, again, err := c.readOnce(int(fd), buf, rx, &event)
			if !again {
				failed = err
				return done
			}
		}
	})
	if err == nil {
		err = failed
	}
	return event, err
}

// readOnce tries the error queue, then the receive queue: a timestamp is there before the
// reply to its datagram, and is best delivered before it. again asks for another call
// at once; else done says whether there is a result.
func (c *clientSocket) readOnce(fd int, buf []byte, rx *model.Received, event *Event) (done, again bool, err error) {
	if c.pending.waiting.Load() > 0 {
		got, err := c.readTimestamp(fd, rx, event)
		if err != unix.EAGAIN {
			return got, !got, nil
		}
	}
	n, controls, flags, _, err := unix.Recvmsg(fd, buf, c.control[:], unix.MSG_DONTWAIT)
	switch {
	case err == unix.EAGAIN:
		return false, false, nil
	case err == unix.EINTR:
		return false, true, nil
	case err != nil:
		return true, false, os.NewSyscallError("recvmsg", err)
	case flags&unix.MSG_TRUNC != 0:
		return false, true, nil
	}
	c.mapping.parse(c.control[:controls])
	c.fill(rx, buf[:n])
	*event = Event{}
	return true, false, nil
}

// fill describes a datagram received; its timestamps are in mapping.
func (c *clientSocket) fill(rx *model.Received, data []byte) {
	m := &c.mapping
	*rx = model.Received{Data: data, Remote: c.cfg.Remote, Local: m.dest, Interface: m.ifindex}
	var known bool
	if rx.At, rx.Timestamp, known = m.received(c.cfg.Hardware, c.cfg.Clock.At); !known {
		rx.At, rx.Timestamp = c.cfg.Clock.Now(), model.TimestampDaemon
	}
}

// readTimestamp reads one message of the error queue. got says that it was a timestamp of ours;
// the error is EAGAIN if the queue is empty.
func (c *clientSocket) readTimestamp(fd int, rx *model.Received, event *Event) (got bool, err error) {
	if c.errData == nil {
		c.errData = make([]byte, errorData)
	}
	n, controls, _, _, err := unix.Recvmsg(fd, c.errData, c.control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err == unix.EINTR {
		return false, nil
	}
	if err != nil {
		return false, unix.EAGAIN
	}
	c.mapping.parse(c.control[:controls])
	at, kind, ok := transmitTimestamp(&c.mapping, c.cfg.Clock, c.cfg.Hardware)
	if !ok {
		return false, nil
	}
	token, ok := c.pending.match(c.errData[:n], c.cfg.Hardware != nil && kind == model.TimestampKernel)
	if !ok {
		return false, nil
	}
	*rx = model.Received{At: at, Timestamp: kind}
	*event = Event{Transmitted: true, Sequence: token.ID}
	return true, nil
}
