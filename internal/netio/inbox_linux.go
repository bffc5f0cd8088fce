package netio

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// inbox is a UDP socket that is polled for input only: datagrams, and what stands in its
// error queue. The runtime's poller watches a socket of package net for room to send as
// well, and every datagram that has left makes room: the server would be woken twice for
// each request. So the runtime is given an epoll instance that watches the socket for
// reading alone, and does not know the socket itself. It is never in blocking mode for
// us: every call says MSG_DONTWAIT.
type inbox struct {
	file    *os.File // the socket
	watcher *os.File
	socket  syscall.RawConn // of file, to keep it open while it is in use
	ready   syscall.RawConn // of watcher: its Read waits for the socket
}

// newInbox takes a socket over from package net.
func newInbox(conn *net.UDPConn) (*inbox, error) {
	file, err := takeOver(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	watcher, err := watch(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	i := &inbox{file: file, watcher: watcher}
	i.socket, err = file.SyscallConn()
	if err == nil {
		i.ready, err = watcher.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// Close ends the waiting as well.
func (i *inbox) Close() error { return errors.Join(i.watcher.Close(), i.file.Close()) }

// takeOver closes conn, but leaves its socket open. In blocking mode it is none of the
// runtime's poller.
func takeOver(conn *net.UDPConn) (*os.File, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	duplicate := -1
	err = onDescriptor(raw, func(fd int) error {
		var err error
		duplicate, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return os.NewSyscallError("fcntl", err)
	})
	if err != nil {
		return nil, err
	}
	err = errors.Join(conn.Close(), os.NewSyscallError("fcntl", unix.SetNonblock(duplicate, false)))
	file := os.NewFile(uintptr(duplicate), "udp")
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// watch makes an epoll instance that can be read when file can.
func watch(file *os.File) (*os.File, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	err = errors.Join(
		os.NewSyscallError("fcntl", unix.SetNonblock(epoll, true)), // for the runtime's poller to take it
		onDescriptor(raw, func(fd int) error {
			event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
			return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event))
		}))
	watcher := os.NewFile(uintptr(epoll), "epoll")
	if err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	return watcher, nil
}
