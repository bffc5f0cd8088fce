package modes

import (
	"slices"
	"testing"

	"timeball/internal/mac"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// kiss is a refusal in the server's name, its origin invented (threats 7).
func kiss(code wire.ReferenceID) peers.Payload {
	return func(round int) []byte {
		h := wire.Header{Leap: wire.LeapUnknown, Version: 4, Mode: wire.ModeServer, Poll: 17, ReferenceID: code, Origin: ntptime.Timestamp(round)}
		return h.Append(nil)
	}
}

// signed puts a true MAC behind a lie, by whatever key.
func signed(p peers.Payload, key *mac.Key) peers.Payload {
	return func(round int) []byte { return key.AppendMAC(p(round), 4) }
}

// falsely puts bytes behind a lie that are no MAC of it.
func falsely(p peers.Payload, octets int) peers.Payload { return peers.Falsely(p, keyID, octets) }

// recorded are a host's packets of a mode so far.
func recorded(packets []seen, from *peers.Host, mode wire.Mode) [][]byte {
	var list [][]byte
	for i := range packets {
		if p := &packets[i]; (step{from, mode}).is(p) {
			list = append(list, p.Payload)
		}
	}
	return list
}

// newestFirst turns a list round.
func newestFirst(list [][]byte) [][]byte {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// slots bounds how many tests attack at once: a flood must meet daemons that have a
// processor to run on, or their clocks are judged by the machine's load.
var slots = make(chan struct{}, 2)

func takeSlot(t *testing.T) {
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}

// burst sends n packets at once.
func burst(f *peers.Forger, packets []peers.Forged, n int) {
	for round := 1000; n > 0; round++ {
		n -= max(f.Round(packets, round), 1)
	}
}
