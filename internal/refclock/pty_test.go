package refclock

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openPTY makes a pair of pseudo terminals; the name is the side that a driver opens.
func openPTY(t *testing.T) (*os.File, string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", n)
}

func TestNMEAOverASerialLine(t *testing.T) {
	master, name := openPTY(t)
	driver, err := Open(Config{Driver: "nmea", Device: name, Baud: 9600, Counters: new(Counters)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString(sentence("GPRMC,120000.00,A,,,,,,,011126,,")); err != nil {
		t.Fatal(err)
	}
	r, err := driver.Read(context.Background())
	if err != nil || !r.Reference.Time().Equal(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)) {
		t.Fatalf("got %v %v", r.Reference.Time(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := driver.Read(ctx); err == nil {
		t.Error("Read outlives its context")
	}
	if err := driver.Close(); err != nil {
		t.Error(err)
	}
}

func TestNMEASpeeds(t *testing.T) {
	_, name := openPTY(t)
	if _, err := Open(Config{Driver: "nmea", Device: name, Baud: 1234, Counters: new(Counters)}); err == nil {
		t.Error("1234 baud were taken")
	}
}
