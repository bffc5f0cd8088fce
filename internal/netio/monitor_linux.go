package netio

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// netlink hears of links and addresses from the kernel (rtnetlink(7)).
type netlink struct {
	file *os.File
	buf  []byte
}

func openMonitorSocket() (monitorSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_NETLINK", err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind AF_NETLINK", err), file.Close())
	}
	return &netlink{file: file, buf: make([]byte, 64<<10)}, nil
}

// wait returns at the first message; what it says is for look to find out.
func (n *netlink) wait(deadline time.Time) error {
	if err := n.file.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, err := n.file.Read(n.buf)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ENOBUFS) {
		return nil
	}
	return err
}

// interrupt ends a wait, and every later one, with an error.
func (n *netlink) interrupt() { _ = n.file.Close() }

func (n *netlink) close() error {
	if err := n.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
