package control

import (
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// soPeerGroups is SO_PEERGROUPS of socket(7), which x/sys gives no call for.
const soPeerGroups = 59

// asker asks the kernel who is at the other end of a connection.
func asker(conn net.Conn) (a Asker) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return a
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return a
	}
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		a = Asker{Known: true, UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Groups: peerGroups(fd)}
	})
	return a
}

// peerGroups are the supplementary groups of the other end when it connected; nil where
// the kernel (before 4.13) does not tell, or there are more than a thousand.
func peerGroups(fd uintptr) []uint32 {
	groups := make([]uint32, 1024)
	size := uint32(len(groups)) * uint32(unsafe.Sizeof(groups[0]))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, soPeerGroups,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return groups[:size/uint32(unsafe.Sizeof(groups[0]))]
}
