package bench

import (
	"encoding/binary"
	"slices"
	"time"

	"timeball/internal/mac"
	"timeball/internal/nts"
)

const (
	headerSize     = 48
	keyedSize      = headerSize + 4 + 16
	offOrigin      = 24
	offReceive     = 32
	offSend        = 40
	timestampMagic = 0xbe4c4000_00000000 // the transmit timestamp of slot i is this + i
)

// slot is one request that can be under way: its bytes do not change (but in
// interleaved mode), so that a generator has nothing to do but to send.
type slot struct {
	request []byte
	waiting bool
	sentAt  time.Duration
}

// newSlots makes n requests of a kind.
func newSlots(n int, load Load) ([]slot, error) {
	slots := make([]slot, n)
	var key *mac.Key
	if load.Kind == KindKeyed {
		var err error
		if key, err = mac.NewKey(load.Key.ID, mac.AES128, load.Key.Secret); err != nil {
			return nil, err
		}
	}
	for i := range slots {
		s := &slots[i]
		s.request = make([]byte, headerSize, keyedSize)
		s.request[0] = 4<<3 | 3
		s.request[2] = 6
		s.request[3] = 0x20
		binary.BigEndian.PutUint64(s.request[offSend:], timestampMagic+uint64(i))
		switch load.Kind {
		case KindKeyed:
			s.request = key.AppendMAC(s.request, 4)
		case KindNTS:
			var err error
			if s.request, err = withNTS(s.request, &load.NTS, uint64(i)); err != nil {
				return nil, err
			}
		case KindMixed:
			s.request = broken(s.request, i)
		}
	}
	return slots, nil
}

// counting gives other nonces to each request; nobody attacks here.
type counting uint64

func (c *counting) Uint64() uint64 { *c++; return uint64(*c) * 0x9e3779b97f4a7c15 }

// withNTS makes a request of a client that holds eight cookies and so wants one.
func withNTS(header []byte, session *NTS, i uint64) ([]byte, error) {
	var client nts.Client
	if err := client.Install(session.Secrets, slices.Repeat([][]byte{session.Cookie}, nts.MaxCookies)); err != nil {
		return nil, err
	}
	random := counting(i << 20)
	request, _ := client.AppendRequest(header, &random)
	return request, nil
}

// broken makes one of many sorts of datagrams of a good request: other versions and
// modes, lengths, trailers and extension fields.
func broken(b []byte, i int) []byte {
	b = b[:len(b):len(b)]
	switch i % 16 {
	case 0, 1, 2, 3: // good
	case 4:
		b[0] = byte(i)
	case 5:
		b = b[:i/16%48]
	case 6:
		b = append(b, make([]byte, i/16%200)...)
	case 7: // an unknown key
		b = append(b, make([]byte, 20)...)
	case 8: // a crypto-NAK
		b = append(b, 0, 0, 0, 0)
	case 9: // an extension field that ends beyond the packet
		b = append(b, 1, 4, 0xff, 0xfc, 0, 0, 0, 0)
	case 10: // an unknown extension field, well-formed
		b = append(b, 0x7f, 1, 0, 28)
		b = append(b, make([]byte, 24)...)
	case 11: // NTS fields without sense
		b = append(b, 1, 4, 0, 36)
		b = append(b, make([]byte, 32)...)
	case 12: // mode 6 and 7 queries
		b = append(b[:0], 2<<3|6|byte(i&1), 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	case 13: // replies that nobody asked for, modes 1, 2, 4 and 5
		b[0] = 4<<3 | []byte{1, 2, 4, 5}[i/16%4]
		b[1] = 1
	case 14:
		clear(b[offSend:])
	case 15: // versions
		b[0] = byte(i/16%8)<<3 | 3
	}
	return b
}

// slotOf finds the request that a reply belongs to; false for a reply to nothing.
// Interleaved mode answers the receive field (RFC 9769 §2), all else the transmit one.
func slotOf(slots []slot, reply []byte) (i int, interleaved, ok bool) {
	if len(reply) < headerSize {
		return 0, false, false
	}
	origin := binary.BigEndian.Uint64(reply[offOrigin:])
	n := origin - timestampMagic
	if n >= 1<<32 {
		return 0, false, false
	}
	interleaved = n >= cookieBit
	i = int(n &^ cookieBit)
	if i >= len(slots) || !slots[i].waiting {
		return 0, false, false
	}
	return i, interleaved, true
}

// cookieBit marks what stands in the receive field of an interleaved request.
const cookieBit = 1 << 31

// goodReply reports whether a reply has the time: mode 4, the request's version and length,
// a synchronized server, timestamps.
func goodReply(request, reply []byte) bool {
	return len(reply) == len(request) && reply[0]&7 == 4 && reply[0]>>3&7 == request[0]>>3&7 &&
		reply[0]>>6 != 3 && reply[1] >= 1 && reply[1] <= 15 &&
		binary.BigEndian.Uint64(reply[offReceive:]) != 0 && binary.BigEndian.Uint64(reply[offSend:]) != 0
}

// interleave prepares the next request of a client that had a reply: origin is the
// server's receive timestamp of it, and another answer is asked for by the receive field.
func (s *slot) interleave(i int, reply []byte) {
	copy(s.request[offOrigin:offReceive], reply[offReceive:])
	binary.BigEndian.PutUint64(s.request[offReceive:], timestampMagic|cookieBit+uint64(i))
}
