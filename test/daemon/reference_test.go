package daemon

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// sockMessage is what gpsd, ts2phc and phc2sys send to a socket of chrony's kind.
func sockMessage(at time.Time, offset float64, leap uint32) []byte {
	b := make([]byte, 40)
	binary.NativeEndian.PutUint64(b, uint64(at.Unix()))
	binary.NativeEndian.PutUint64(b[8:], uint64(at.Nanosecond()/1000))
	binary.NativeEndian.PutUint64(b[16:], math.Float64bits(offset))
	binary.NativeEndian.PutUint32(b[28:], leap)
	binary.NativeEndian.PutUint32(b[36:], 0x534f434b)
	return b
}

// send sends messages to a socket, ten a second, until the test ends.
func send(t *testing.T, path string, message func() []byte) {
	t.Helper()
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
			}
			if conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}); err == nil {
				_, _ = conn.Write(message())
				_ = conn.Close()
			}
		}
	}()
}

// A receiver that sends messages of chrony's SOCK kind makes this host stratum 1, and
// ClockBound's clients are told how wrong the machine's clock is.
func TestAReceiverByItsSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket, shm := filepath.Join(dir, "gps.sock"), filepath.Join(dir, "shm")
	at := freePort(t)
	p := start(t, fmt.Sprintf(`
clock: {driver: observe}
server: {listen: ["%s"]}
clockbound: {version1: %s, version2: ""}
sources:
  - refclock: {driver: sock, device: %s, refid: GPS, delay: 2ms}
    min_poll: 0
`, at, shm, socket))
	p.until("a socket of mode 0600", func() bool {
		info, err := os.Stat(socket)
		return err == nil && info.Mode().Perm() == 0o600
	})
	send(t, socket, func() []byte { return sockMessage(time.Now(), 0.2, 0) })
	row := p.Has(patience, "the receiver is followed", func(s peers.Source) bool { return s.State == "selected" && s.Reach&3 == 3 })
	if row.Mode != "reference-clock" || row.ReferenceID != "GPS" || row.Stratum != 0 {
		t.Errorf("row: %v", row)
	}
	request := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 7}
	var packet wire.Packet
	p.until("stratum 1 of GPS, once the offset is worked off", func() bool {
		reply, err := p.Host.Exchange(at, request.Append(nil), time.Second)
		return err == nil && packet.Decode(reply) == wire.DefectNone && packet.Stratum == 1
	})
	if packet.ReferenceID.Text() != "GPS" || packet.RootDelay.Duration() < 2*time.Millisecond {
		t.Errorf("served: %+v", packet.Header)
	}
	var bound time.Duration
	peers.Eventually(t, patience, "ClockBound is told that the machine's clock is 200 ms off", func() error {
		data, err := os.ReadFile(shm)
		if err != nil || len(data) != 72 {
			return fmt.Errorf("%d bytes, %v", len(data), err)
		}
		bound = time.Duration(binary.NativeEndian.Uint64(data[48:]))
		if status := binary.NativeEndian.Uint32(data[64:]); status != 1 || bound > 210*time.Millisecond {
			return fmt.Errorf("status %d, ± %v", status, bound)
		}
		return nil
	})
	if bound < 200*time.Millisecond {
		t.Errorf("ClockBound is told ± %v; the machine's clock is 200 ms off", bound)
	}
	p.terminate()
	if data, _ := os.ReadFile(shm); len(data) != 72 || binary.NativeEndian.Uint32(data[64:]) != 0 {
		t.Error("the bound outlives the daemon")
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket outlives the daemon")
	}
}

// What a driver refuses is explained, with its reason.
func TestRefusedReadingsAreExplained(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "gps.sock")
	p := start(t, fmt.Sprintf(`
clock: {driver: observe}
metrics: {listen: "127.0.0.1:0"}
sources:
  - refclock: {driver: sock, device: %s}
    min_poll: 0
  - refclock: {driver: pps, device: %s/pps9}
`, socket, filepath.Dir(socket)))
	send(t, socket, func() []byte { return sockMessage(time.Now(), 0, 3) })
	p.until("the reason", func() bool {
		said, _, err := p.Run("explain")
		said = strings.Join(strings.Fields(said), " ") // its lines end at 80 columns
		return err == nil && strings.Contains(said, "no fix") && strings.Contains(said, "pps9: no such file")
	})
}

// timestampOf reads a timestamp of the wire as a time of era 0.
func timestampOf(p wire.Packet) time.Time {
	const unixEpoch = 2208988800
	return time.Unix(int64(p.Transmit>>32)-unixEpoch, int64(p.Transmit&0xffffffff)*1e9>>32)
}

// One host serves smeared and true time side by side, eight hours into the window of the
// leap second of 2016.
func TestSmearedAndTrueTimeSideBySide(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := filepath.Join(dir, "leap-seconds.list")
	// 1 July 2015, 1 January 2017; updated in 2016, good until 2040. The hash is of the digits.
	const update, expiry, rows = "3676924800", "4417977600", "3644697600 36\n3692217600 37\n"
	hash := sha1.Sum([]byte(update + expiry + "3644697600" + "36" + "3692217600" + "37"))
	text := "#$ " + update + "\n#@ " + expiry + "\n" + rows + "#h"
	for i := 0; i < len(hash); i += 4 {
		text += fmt.Sprintf(" %08x", hash[i:i+4])
	}
	if err := os.WriteFile(list, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	evening := time.Date(2016, 12, 31, 20, 0, 0, 0, time.UTC)
	for shape, want := range map[string]float64{"linear": -8 * 3600 / 86401.0, "cosine": -(1 - math.Cos(math.Pi*8*3600/86401)) / 2} {
		smeared, plain := freePort(t), freePort(t)
		p := start(t, fmt.Sprintf(`
clock: {driver: virtual, virtual: {offset: %ds}, leap: {file: %s, mode: smear, smear: {shape: %s}}}
local: {stratum: 2}
server: {listen: ["%s", {address: "%s", smear: false}]}
`, int(time.Since(evening).Seconds()), list, shape, smeared, plain))
		ask := func(at string) (packet wire.Packet) {
			request := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 7}
			p.until("an answer", func() bool {
				conn, err := p.Host.Dial("udp", at)
				if err != nil {
					return false
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, _ = conn.Write(request.Append(nil))
				reply := make([]byte, 100)
				n, err := conn.Read(reply)
				return err == nil && packet.Decode(reply[:n]) == wire.DefectNone && packet.Stratum == 2
			})
			return packet
		}
		// True time when the smeared one was told lies between the two told round it.
		before, there, after := ask(plain.String()), ask(smeared.String()), ask(plain.String())
		if most, least := timestampOf(there).Sub(timestampOf(before)).Seconds(), timestampOf(there).Sub(timestampOf(after)).Seconds(); want > most+0.01 || want < least-0.01 {
			t.Errorf("%s: smeared time is %.3f to %.3f s off, want %.3f", shape, least, most, want)
		}
		if before.Leap != wire.LeapInsert || there.Leap != wire.LeapNone {
			t.Errorf("%s: leap %v by true time, %v by smeared", shape, before.Leap, there.Leap)
		}
		if got := there.RootDispersion.Duration().Seconds(); got < -want || there.ReferenceID.Format(3)[:4] != "254." {
			t.Errorf("%s: root dispersion %.3f, reference id %s", shape, got, there.ReferenceID.Format(3))
		}
	}
}
