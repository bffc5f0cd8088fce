package netio

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Timestamping flags: what a socket reports, and what a datagram asks for.
const (
	reportSoftware = unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE
	reportHardware = unix.SOF_TIMESTAMPING_RAW_HARDWARE | unix.SOF_TIMESTAMPING_RX_HARDWARE |
		unix.SOF_TIMESTAMPING_OPT_PKTINFO | unix.SOF_TIMESTAMPING_OPT_CMSG | unix.SOF_TIMESTAMPING_OPT_TX_SWHW
	askSoftware = unix.SOF_TIMESTAMPING_TX_SOFTWARE
	askHardware = unix.SOF_TIMESTAMPING_TX_HARDWARE
)

// option is one setsockopt. Those that only make things better may fail.
type option struct {
	name        string
	level, opt  int
	value       int
	dispensable bool
}

func setOptions(fd int, options []option) error {
	for _, o := range options {
		err := unix.SetsockoptInt(fd, o.level, o.opt, o.value)
		if err != nil && !o.dispensable {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	return nil
}

// commonOptions are those of every socket: arrival address, kernel timestamps, and DF
// without belief in ICMP (fragments can be forged into, and path MTUs as well).
func commonOptions(v6, hardware bool) []option {
	timestamping := reportSoftware
	if hardware {
		timestamping |= reportHardware
	}
	options := []option{timestampingOption(timestamping)}
	if v6 {
		return append(options,
			option{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, false},
			option{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE, true},
			option{"IPV6_DONTFRAG", unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1, true})
	}
	return append(options,
		option{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1, false},
		option{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, true})
}

// timestampingOption asks for timestamps; where long has 32 bits in the form that lasts
// beyond 2038.
func timestampingOption(flags int) option {
	if longSize == 8 {
		return option{"SO_TIMESTAMPING", unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags, true}
	}
	return option{"SO_TIMESTAMPING_NEW", unix.SOL_SOCKET, unix.SO_TIMESTAMPING_NEW, flags, true}
}

// portOptions are those of a port's socket besides. Nothing sent to a group is
// received by sockets that have not joined it themselves.
func portOptions(v6 bool, cfg *ListenConfig) []option {
	options := commonOptions(v6, cfg.Hardware != nil)
	if v6 {
		return append(options,
			option{"IPV6_MULTICAST_ALL", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0, true})
	}
	return append(options,
		option{"IP_MULTICAST_ALL", unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0, true})
}

// setBuffers asks for a receive buffer, and for a send buffer of DefaultSendBuffer, beyond
// the system's limits where the process may.
func setBuffers(fd, receive int) error {
	for _, b := range []struct {
		name       string
		force, opt int
		bytes      int
	}{
		{"SO_RCVBUF", unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receive},
		{"SO_SNDBUF", unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, DefaultSendBuffer},
	} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.force, b.bytes) == nil {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.opt, b.bytes); err != nil {
			return os.NewSyscallError("setsockopt "+b.name, err)
		}
	}
	return nil
}

// keepTimestamping opens, once, a socket that does nothing but ask for receive timestamps, for as long
// as the process lives. The kernel timestamps arrivals while some socket wants it, and
// begins some time after the first asks: without this a client's short-lived socket
// would often get none.
var keepTimestamping = sync.OnceFunc(func() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return // then timestamps are had a little later
	}
	_ = setOptions(fd, []option{timestampingOption(reportSoftware)})
})
