package refclock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"timeball/internal/ntptime"
)

// phcReadings are made for each comparison; the one with the least time between the
// readings of the system's clock around the NIC's counts.
const phcReadings = 10

// phcCalls are the requests to a PTP hardware clock, so that tests can answer them.
type phcCalls interface {
	Precise(fd int) (*unix.PtpSysOffsetPrecise, error)
	Extended(fd int) (*unix.PtpSysOffsetExtended, error)
	Plain(fd int) (*unix.PtpSysOffset, error)
}

type phc struct {
	device
	config Config
	calls  phcCalls
	way    int // which of the three requests this driver answers
}

// openPHC opens a hardware clock by /dev/ptpN, by an interface's name, or by unit.
func openPHC(c Config) (Driver, error) {
	path, err := phcPath(c)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("hardware clock: %w", err)
	}
	return newPHC(c, f, phcKernel{})
}

// phcPath finds the device: a name without a slash is an interface's.
func phcPath(c Config) (string, error) {
	switch {
	case c.Device == "":
		return fmt.Sprintf("/dev/ptp%d", c.Unit), nil
	case strings.Contains(c.Device, "/"):
		return c.Device, nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("hardware clock: %w", err)
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolTsInfo(fd, c.Device)
	if err != nil {
		return "", fmt.Errorf("hardware clock: ask interface %s: %w", c.Device, err)
	}
	if info.Phc_index < 0 {
		return "", fmt.Errorf("hardware clock: interface %s has none", c.Device)
	}
	return fmt.Sprintf("/dev/ptp%d", info.Phc_index), nil
}

func newPHC(c Config, f *os.File, calls phcCalls) (Driver, error) {
	p := &phc{config: c, calls: calls, device: device{file: f, done: make(chan struct{})}}
	if _, err := p.compare(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("hardware clock %s: %w", f.Name(), err)
	}
	return p, nil
}

// Read makes a comparison once a period.
func (p *phc) Read(ctx context.Context) (Reading, error) {
	if err := pause(ctx, p.done, p.config.Every); err != nil {
		return Reading{}, err
	}
	r, err := p.compare()
	if err != nil {
		return Reading{}, fmt.Errorf("hardware clock: %w", err)
	}
	p.config.Counters.taken.Add(1)
	return r, nil
}

// compare reads both clocks by the best request that this device knows.
func (p *phc) compare() (Reading, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return Reading{}, errClosed
	}
	fd := int(p.file.Fd())
	ways := []func(int) (Reading, error){p.precise, p.extended, p.plain}
	for ; ; p.way++ {
		r, err := ways[p.way](fd)
		if p.way == len(ways)-1 || !unknownRequest(err) {
			r.TAI = p.config.TAI
			return r, err
		}
	}
}

// unknownRequest says that the device, or the kernel, does not know the request.
func unknownRequest(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}

// precise is one comparison that the hardware makes by itself.
func (p *phc) precise(fd int) (Reading, error) {
	o, err := p.calls.Precise(fd)
	if err != nil {
		return Reading{}, err
	}
	return Reading{Reference: ptpTime(o.Device), Realtime: ptpTime(o.Realtime)}, nil
}

func (p *phc) extended(fd int) (Reading, error) {
	o, err := p.calls.Extended(fd)
	if err != nil {
		return Reading{}, err
	}
	best := tightest{}
	for _, ts := range o.Ts[:min(int(o.Samples), len(o.Ts))] {
		best.take(ptpTime(ts[0]), ptpTime(ts[1]), ptpTime(ts[2]))
	}
	return best.reading()
}

// plain has the system's time and the NIC's in turn, beginning and ending with the system's.
func (p *phc) plain(fd int) (Reading, error) {
	o, err := p.calls.Plain(fd)
	if err != nil {
		return Reading{}, err
	}
	best := tightest{}
	for i := 0; i < int(o.Samples) && 2*i+2 < len(o.Ts); i++ {
		best.take(ptpTime(o.Ts[2*i]), ptpTime(o.Ts[2*i+1]), ptpTime(o.Ts[2*i+2]))
	}
	return best.reading()
}

// tightest keeps the comparison with the least time between the two readings of the
// system's clock around the card's.
type tightest struct {
	found           bool
	system, card    ntptime.Wall
	halfWidth, full time.Duration
}

func (t *tightest) take(before, card, after ntptime.Wall) {
	width := after.Sub(before)
	if width < 0 || t.found && width >= t.full {
		return
	}
	*t = tightest{found: true, system: before.Add(width / 2), card: card, halfWidth: (width + 1) / 2, full: width}
}

func (t *tightest) reading() (Reading, error) {
	if !t.found {
		return Reading{}, errors.New("it gave no comparison with the system's clock")
	}
	return Reading{Reference: t.card, Realtime: t.system, Error: t.halfWidth}, nil
}

func ptpTime(t unix.PtpClockTime) ntptime.Wall {
	return ntptime.Wall(t.Sec*1_000_000_000 + int64(t.Nsec))
}

// phcKernel asks the kernel.
type phcKernel struct{}

func (phcKernel) Precise(fd int) (*unix.PtpSysOffsetPrecise, error) {
	return unix.IoctlPtpSysOffsetPrecise(fd)
}

func (phcKernel) Extended(fd int) (*unix.PtpSysOffsetExtended, error) {
	return unix.IoctlPtpSysOffsetExtended(fd, phcReadings)
}

func (phcKernel) Plain(fd int) (*unix.PtpSysOffset, error) {
	o := &unix.PtpSysOffset{Samples: phcReadings}
	return o, ioctl(fd, unix.PTP_SYS_OFFSET, unsafe.Pointer(o))
}
