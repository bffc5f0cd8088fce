package interop

import (
	"fmt"
	"testing"
	"time"

	"timeball/test/peers"
)

// receiverIs says whether a reference clock has given its last samples with this offset.
func receiverIs(offset time.Duration) func(peers.Source) bool {
	return func(s peers.Source) bool {
		return s.State == "selected" && s.Stratum == 0 && s.Offset != nil && *s.Offset > (offset-20*time.Millisecond).Seconds() && *s.Offset < (offset+20*time.Millisecond).Seconds()
	}
}

// TestGpsdBySharedMemory follows gpsd by the shared memory of ntpd's driver 28.
func TestGpsdBySharedMemory(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	h := lab.Host("stratum1")
	receiver := peers.Receive(t, h, 120*time.Millisecond)
	gpsd, stop := peers.Gpsd(t, h, receiver, 8*time.Second)
	d := peers.Timeball(t, h, gpsdConf("driver: shm, unit: 0"), gpsd...)
	followsGpsd(t, lab, d, receiver, stop)
}

// TestGpsdBySocket follows gpsd by a socket of chrony's kind: the one before Debian 13's
// sends no time of the serial line there.
func TestGpsdBySocket(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	h := lab.Host("stratum1")
	receiver := peers.Receive(t, h, 120*time.Millisecond)
	socket, gpsd, stop := peers.Gpsd13(t, h, receiver, 8*time.Second)
	d := peers.Timeball(t, h, gpsdConf("driver: sock, device: \""+socket+"\""), gpsd...)
	followsGpsd(t, lab, d, receiver, stop)
}

func gpsdConf(device string) string {
	return fmt.Sprintf(`
clock: {driver: observe}
server: {}
sources:
  - refclock: {%s, refid: GPS, offset: 120ms, delay: 40ms}
    min_poll: 1
`, device)
}

// followsGpsd follows gpsd through a loss of the receiver's fix, an end of gpsd and a jump
// of the receiver.
func followsGpsd(t *testing.T, lab *peers.Lab, d *peers.Daemon, receiver *peers.Receiver, stop func()) {
	t.Helper()
	d.Has(40*time.Second, "the receiver is followed", receiverIs(0))
	other := lab.Host("client")
	peers.Eventually(t, 20*time.Second, "a client is served, once the offset is worked off", func() error {
		reply, err := ask(other, d.Host.IPv4, 4)
		if err != nil || reply.Stratum != 1 || reply.ReferenceID.Text() != "GPS" {
			return fmt.Errorf("stratum %d, reference id %s, %v", reply.Stratum, reply.ReferenceID.Text(), err)
		}
		return nil
	})
	receiver.Fix(false)
	d.Has(60*time.Second, "a receiver without a fix", func(s peers.Source) bool { return s.Reach&3 == 0 })
	receiver.Fix(true)
	d.Has(40*time.Second, "the fix is back", receiverIs(0))
	stop()
	d.Has(60*time.Second, "gpsd has ended", func(s peers.Source) bool { return s.Reach&3 == 0 })
	d.Has(60*time.Second, "gpsd has begun again", func(s peers.Source) bool { return s.Reach&3 == 3 && s.State == "selected" })
	receiver.Jump(500 * time.Millisecond)
	peers.Eventually(t, 60*time.Second, "the time told is the receiver's, half a second later", func() error {
		var now struct {
			Earliest int64 `json:"earliest_ns"`
			Latest   int64 `json:"latest_ns"`
		}
		if err := d.Report(&now, "now"); err != nil {
			return err
		}
		off := time.Duration((now.Earliest+now.Latest)/2 - time.Now().UnixNano())
		if off < 400*time.Millisecond || off > 600*time.Millisecond {
			return fmt.Errorf("it is %v after the machine's", off)
		}
		return nil
	})
}

// TestSerialReceiver follows a receiver without gpsd between.
func TestSerialReceiver(t *testing.T) {
	t.Parallel()
	line, name := peers.SerialLine(t)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	go func() {
		for {
			second := time.Now().Truncate(time.Second).Add(time.Second)
			select {
			case <-end:
				return
			case <-time.After(time.Until(second.Add(80 * time.Millisecond))):
			}
			text := peers.Sentence("GNRMC," + second.UTC().Format("150405.00") + ",A,,,,,,," + second.UTC().Format("020106") + ",,,A")
			if _, err := line.WriteString(text); err != nil {
				return
			}
		}
	}()
	d := peers.Timeball(t, peers.Here(t), fmt.Sprintf(`
clock: {driver: observe}
sources:
  - refclock: {driver: nmea, device: %s, refid: NMEA, offset: 80ms, delay: 40ms}
    min_poll: 1
`, name))
	d.Has(30*time.Second, "the receiver is followed", receiverIs(0))
}
