package netio

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// routeTo asks the kernel by which interface it would send to an address (RTM_GETROUTE,
// rtnetlink(7)); 0: there is no route.
func routeTo(addr netip.Addr) (ifindex int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, os.NewSyscallError("socket AF_NETLINK", err)
	}
	defer func() { _ = unix.Close(fd) }()
	// The answer is there when sendto returns; a kernel that says nothing must not hold us up.
	wait := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return 0, os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	if err := unix.Sendto(fd, routeRequest(addr), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, os.NewSyscallError("sendto AF_NETLINK", err)
	}
	answer := make([]byte, 8<<10)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(fd, answer, 0)
	}
	if err != nil {
		return 0, os.NewSyscallError("recvfrom AF_NETLINK", err)
	}
	return outputInterface(answer[:n])
}

// routeRequest is the message that asks for the route to an address.
func routeRequest(addr netip.Addr) []byte {
	to := addr.AsSlice()
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofRtMsg+unix.SizeofRtAttr, 64)
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	message := (*unix.RtMsg)(unsafe.Pointer(&b[unix.SizeofNlMsghdr]))
	message.Family, message.Dst_len = unix.AF_INET, uint8(8*len(to))
	if addr.Is6() {
		message.Family = unix.AF_INET6
	}
	attribute := b[unix.SizeofNlMsghdr+unix.SizeofRtMsg:]
	binary.NativeEndian.PutUint16(attribute, uint16(unix.SizeofRtAttr+len(to)))
	binary.NativeEndian.PutUint16(attribute[2:], unix.RTA_DST)
	b = append(b, to...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// outputInterface reads the answer to a routeRequest.
func outputInterface(answer []byte) (ifindex int, err error) {
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return 0, os.NewSyscallError("netlink message", err)
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.NLMSG_ERROR:
			if len(m.Data) < 4 {
				return 0, errors.New("netlink error cut short")
			}
			errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
			if errno == unix.ENETUNREACH || errno == unix.EHOSTUNREACH || errno == unix.ENONET {
				return 0, nil
			}
			return 0, os.NewSyscallError("RTM_GETROUTE", errno)
		case unix.RTM_NEWROUTE:
			if len(m.Data) < unix.SizeofRtMsg {
				return 0, errors.New("netlink route cut short")
			}
			// A route of type unreachable, prohibit or blackhole leads nowhere, whatever it names.
			if kind := m.Data[7]; kind != unix.RTN_UNICAST && kind != unix.RTN_MULTICAST && kind != unix.RTN_LOCAL {
				return 0, nil
			}
			if value := routeAttribute(m.Data[unix.SizeofRtMsg:], unix.RTA_OIF); len(value) >= 4 {
				return int(binary.NativeEndian.Uint32(value)), nil
			}
		}
	}
	return 0, nil
}

// routeAttribute finds an attribute (struct rtattr) by its type, nil if there is none. The
// standard library's own reader panics where the last one is cut short.
func routeAttribute(b []byte, kind uint16) []byte {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind {
			return b[unix.SizeofRtAttr:length]
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}
