package peers

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Payload makes the packet of a round; nil for none.
type Payload func(round int) []byte

// Forged is one kind of packet as an attacker sends it.
type Forged struct {
	From, To netip.AddrPort
	Payload  Payload
}

// Lie is a packet that says it is an hour later than it is, by a server of stratum 1.
func Lie(mode wire.Mode) Payload {
	return func(round int) []byte {
		later := ntptime.WallOf(time.Now().Add(time.Hour)).Timestamp()
		h := wire.Header{Version: 4, Mode: mode, Stratum: 1, Precision: -20, ReferenceID: wire.ReferenceName("GPS"),
			ReferenceTime: later, Receive: later, Transmit: later + ntptime.Timestamp(round)}
		switch {
		case mode == wire.ModeBroadcast:
			h.Receive = 0
		case round%2 == 0: // never what anybody waits for; else 0 (threats 8)
			h.Origin = ntptime.Timestamp(round)
		}
		return h.Append(nil)
	}
}

// Falsely puts a key's number and bytes behind a packet that are no MAC of it.
func Falsely(p Payload, key uint32, octets int) Payload {
	return func(round int) []byte {
		return append(binary.BigEndian.AppendUint32(p(round), key), slices.Repeat([]byte{0xa5}, octets)...)
	}
}

// Refusal puts a crypto-NAK behind a packet (threats 14).
func Refusal(p Payload) Payload {
	return func(round int) []byte { return append(p(round), 0, 0, 0, 0) }
}

// Replayed sends recorded packets again, one a round, in turn.
func Replayed(list [][]byte) Payload {
	return func(round int) []byte {
		if len(list) == 0 {
			return nil
		}
		return list[round%len(list)]
	}
}

// Round sends each packet once, as those of a round, and says how many that were.
func (f *Forger) Round(packets []Forged, round int) (sent int) {
	for _, p := range packets {
		if b := p.Payload(round); b != nil && f.Send(p.From, p.To, b) == nil {
			sent++
		}
	}
	return sent
}

// Storm sends each packet ten times a second until it is ended; the end says how many
// that were.
func (f *Forger) Storm(packets []Forged) (end func() int) {
	stop, sum := make(chan struct{}), make(chan int, 1)
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		sent := 0
		for round := 1; ; round++ {
			sent += f.Round(packets, round)
			select {
			case <-stop:
				sum <- sent
				return
			case <-ticker.C:
			}
		}
	}()
	return func() int {
		close(stop)
		return <-sum
	}
}
