package main

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// flood sends mutated packets to every host.
type flood struct {
	targets       []netip.AddrPort
	rate, seeds   int
	sent, answers atomic.Int64
}

func newFlood(targets []netip.AddrPort, rate, seeds int) *flood {
	return &flood{targets: targets, rate: rate, seeds: max(seeds, 1)}
}

// run floods until ctx ends, by one goroutine a seed.
func (f *flood) run(ctx context.Context) {
	var wait sync.WaitGroup
	for seed := range f.seeds {
		wait.Go(func() { f.stream(ctx, uint64(seed)) })
	}
	wait.Wait()
}

// stream sends one seed's packets, in small bursts, and counts what comes back.
func (f *flood) stream(ctx context.Context, seed uint64) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = socket.Close() })()
	go f.count(socket)
	const pause = 10 * time.Millisecond
	burst := max(1, f.rate/f.seeds/int(time.Second/pause))
	random := rand.New(rand.NewPCG(seed, 2030))
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for range burst {
			if _, err := socket.WriteToUDPAddrPort(mutant(random), f.targets[random.IntN(len(f.targets))]); err == nil {
				f.sent.Add(1)
			}
		}
	}
}

// count is a goroutine: it counts answers until the socket is closed.
func (f *flood) count(socket *net.UDPConn) {
	buffer := make([]byte, 2048)
	for {
		_, _, err := socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		f.answers.Add(1)
	}
}

// mutant is a packet that is almost right: a header of some mode and version, with
// extension fields or a MAC behind it at times, cut, lengthened or with bits flipped.
func mutant(random *rand.Rand) []byte {
	packet := make([]byte, 48, 512)
	packet[0] = byte(random.UintN(4))<<6 | byte(random.UintN(8))<<3 | byte(random.UintN(8))
	if random.UintN(4) > 0 { // mostly a version and a mode in use
		packet[0] = byte(3+random.UintN(2))<<3 | byte(1+random.UintN(6))
	}
	packet[1], packet[2] = byte(random.UintN(17)), byte(random.UintN(18))
	for i := 16; i < 48; i += 8 {
		binary.BigEndian.PutUint64(packet[i:], random.Uint64())
	}
	switch random.UintN(4) {
	case 0: // an extension field
		packet = binary.BigEndian.AppendUint16(packet, uint16(random.Uint32()))
		packet = binary.BigEndian.AppendUint16(packet, uint16(random.UintN(64)))
		packet = append(packet, make([]byte, random.UintN(60))...)
	case 1: // a MAC, perhaps of the key in use
		packet = binary.BigEndian.AppendUint32(packet, uint32(random.UintN(12)))
		packet = append(packet, make([]byte, 16+4*random.UintN(2))...)
	}
	for range random.UintN(4) {
		packet[random.IntN(len(packet))] ^= 1 << random.UintN(8)
	}
	if random.UintN(8) == 0 {
		packet = packet[:random.IntN(len(packet))+1]
	}
	return packet
}
