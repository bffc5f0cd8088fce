package responder

import (
	"encoding/binary"
	"net/netip"
)

// Open are the networks whose addresses are told the time without showing anything, as
// the fewest prefixes in order; nil where there are none. Nil Access lets everybody in, and
// has no list.
func (a *Access) Open() []netip.Prefix {
	if a == nil {
		return nil
	}
	return append(a.v4.open(32), a.v6.open(128)...)
}

func (t *intervals) open(bits int) (list []netip.Prefix) {
	top := mask(bits)
	for i, start := range t.starts {
		if g := t.grants[i]; !g.Right.Time() || g.Require != RequireNone {
			continue
		}
		last := top
		if i+1 < len(t.starts) {
			last = t.starts[i+1].previous()
		}
		list = cover(list, start, last, bits)
	}
	return list
}

// cover appends the fewest prefixes that hold the numbers from first to last.
func cover(list []netip.Prefix, first, last number, bits int) []netip.Prefix {
	for {
		size := 0 // of the block that begins at first, as a power of two
		for size < bits {
			m := mask(size + 1)
			end := number{first.hi | m.hi, first.lo | m.lo}
			if first.hi&m.hi != 0 || first.lo&m.lo != 0 || last.less(end) {
				break
			}
			size++
		}
		m := mask(size)
		list = append(list, netip.PrefixFrom(first.addr(bits), bits-size))
		next, more := number{first.hi | m.hi, first.lo | m.lo}.next()
		if !more || last.less(next) {
			return list
		}
		first = next
	}
}

// previous is the number before n, which is not 0.
func (n number) previous() number {
	if n.lo == 0 {
		n.hi--
	}
	n.lo--
	return n
}

// addr is the way back from numberOf.
func (n number) addr(bits int) netip.Addr {
	if bits == 32 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}
