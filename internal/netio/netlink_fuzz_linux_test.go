package netio

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// netlinkMessage is one message of a type as the kernel sends it.
func netlinkMessage(kind uint16, data []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(data))
	binary.NativeEndian.PutUint32(b, uint32(unix.SizeofNlMsghdr+len(data)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	return append(b, data...)
}

// What netlink says is read whatever it is, without a panic.
func FuzzNetlink(f *testing.F) {
	f.Add(routeRequest(netip.MustParseAddr("224.0.1.1")))
	f.Add(netlinkMessage(unix.RTM_NEWROUTE, nil))
	f.Add(netlinkMessage(unix.NLMSG_ERROR, []byte{1}))
	f.Add(netlinkMessage(unix.RTM_NEWROUTE, append(make([]byte, 12), 8, 0, unix.RTA_OIF, 0, 3, 0, 0, 0)))
	f.Add(netlinkMessage(unix.RTM_NEWNEIGH, append([]byte{2, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0}, 8, 0, unix.NDA_DST, 0, 192, 0, 2, 9)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if index, err := outputInterface(b); err != nil && index != 0 {
			t.Errorf("interface %d beside the error %v", index, err)
		}
		messages, err := syscall.ParseNetlinkMessage(b)
		if err != nil {
			return
		}
		table := &neighbourTable{resolved: map[netip.Addr]struct{}{}}
		for i := range messages {
			table.take(&messages[i])
		}
	})
}

func TestANeighbourIsKnownByItsState(t *testing.T) {
	entry := func(state byte, last byte) syscall.NetlinkMessage {
		data := append([]byte{2, 0, 0, 0, 3, 0, 0, 0, state, 0, 0, 0}, 8, 0, unix.NDA_DST, 0, 192, 0, 2, last)
		messages, err := syscall.ParseNetlinkMessage(netlinkMessage(unix.RTM_NEWNEIGH, data))
		if err != nil || len(messages) != 1 {
			t.Fatal(messages, err)
		}
		return messages[0]
	}
	table := &neighbourTable{resolved: map[netip.Addr]struct{}{}, links: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	for i, state := range []byte{unix.NUD_INCOMPLETE, unix.NUD_REACHABLE, unix.NUD_STALE, unix.NUD_FAILED} {
		m := entry(state, byte(i))
		table.take(&m)
	}
	for address, want := range map[string]bool{
		"192.0.2.0": true, "192.0.2.1": false, "192.0.2.2": false, "192.0.2.3": true, "192.0.2.99": true, "198.51.100.1": false,
	} {
		if got := table.unresolved(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s unresolved: got %v, want %v", address, got, want)
		}
	}
}
