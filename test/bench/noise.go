package bench

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"time"

	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
)

// noiseVariable tells a process of this program to measure a server's offset; it holds
// ADDRESS:PORT.
const noiseVariable = "TIMEBALL_BENCH_NOISE"

const (
	noiseExchanges = 600
	noiseEvery     = 10 * time.Millisecond
)

// Noise is how the offset of a server scatters, measured from the same exchanges by two
// pairs of T1 and T4. Where both ends read one clock, the true offset is 0.
type Noise struct {
	Exchanges                         int
	Kernel, User                      time.Duration // root mean square of the offset
	KernelMedian, UserMedian          time.Duration // median of |offset|
	KernelTimestamps, DaemonTimestamp int           // exchanges with both timestamps by the kernel, and others
}

// beNoise measures if the environment says so, and prints the Noise.
func beNoise() (did bool, err error) {
	target := os.Getenv(noiseVariable)
	if target == "" {
		return false, nil
	}
	n, err := MeasureNoise(target)
	if err != nil {
		return true, err
	}
	return true, json.NewEncoder(os.Stdout).Encode(n)
}

// MeasureNoise makes some hundred exchanges with a server.
func MeasureNoise(target string) (Noise, error) {
	remote, err := netip.ParseAddrPort(target)
	if err != nil {
		return Noise{}, err
	}
	var n Noise
	var kernel, user []time.Duration
	ticker := time.NewTicker(noiseEvery)
	defer ticker.Stop()
	for i := range noiseExchanges {
		<-ticker.C
		e, err := exchange(remote, uint64(i))
		if err != nil {
			return n, err
		}
		if !e.kernel {
			n.DaemonTimestamp++
			continue
		}
		n.KernelTimestamps++
		kernel, user = append(kernel, e.offset(e.t1, e.t4)), append(user, e.offset(e.user1, e.user4))
	}
	n.Exchanges = noiseExchanges
	n.Kernel, n.User = rms(kernel), rms(user)
	n.KernelMedian, n.UserMedian = percentile(abs(kernel), 0.5), percentile(abs(user), 0.5)
	return n, nil
}

// timestamped is an exchange with the timestamps of both sorts.
type timestamped struct {
	t1, t4, user1, user4, t2, t3 ntptime.Wall
	kernel                       bool // t1 and t4 are the kernel's
}

func (e *timestamped) offset(t1, t4 ntptime.Wall) time.Duration {
	return (e.t2.Sub(t1) + e.t3.Sub(t4)) / 2
}

// exchange is one request and its reply from a socket of its own, as the daemon makes it.
func exchange(remote netip.AddrPort, cookie uint64) (timestamped, error) {
	var e timestamped
	c, err := netio.OpenClient(netio.ClientConfig{Remote: remote})
	if err != nil {
		return e, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return e, err
	}
	request := make([]byte, headerSize)
	request[0] = 4<<3 | 3
	binary.BigEndian.PutUint64(request[offSend:], timestampMagic+cookie)
	sent, err := c.Send(request)
	if err != nil {
		return e, err
	}
	e.user1 = sent.Wall
	buf, sending := make([]byte, 2048), false
	for {
		var rx model.Received
		event, err := c.Read(buf, &rx)
		if err != nil {
			return e, fmt.Errorf("exchange with %s: %w", remote, err)
		}
		if event.Transmitted {
			e.t1, sending = rx.At.Wall, true
			continue
		}
		e.user4 = ntptime.WallOf(time.Now())
		e.t4, e.kernel = rx.At.Wall, sending && rx.Timestamp == model.TimestampKernel
		if len(rx.Data) < headerSize {
			return e, fmt.Errorf("exchange with %s: reply of %d bytes", remote, len(rx.Data))
		}
		e.t2 = ntptime.Timestamp(binary.BigEndian.Uint64(rx.Data[offReceive:])).Wall(e.user4)
		e.t3 = ntptime.Timestamp(binary.BigEndian.Uint64(rx.Data[offSend:])).Wall(e.user4)
		return e, nil
	}
}
