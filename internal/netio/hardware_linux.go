package netio

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/ntptime"
)

// comparisons is how often the two clocks are read for one Compare; the tightest counts.
const comparisons = 9

// SystemCards is the kernel's interface to the cards of this machine: ethtool and
// SIOCSHWTSTAMP for stamping, /dev/ptpN for their clocks.
func SystemCards() CardSystem { return systemCards{ioctls{}} }

// cardIoctls are the system calls behind it.
type cardIoctls interface {
	Info(ifname string) (*unix.EthtoolTsInfo, error)
	Stamping(ifname string) (*unix.HwTstampConfig, error)
	SetStamping(ifname string, cfg *unix.HwTstampConfig) error
}

type systemCards struct{ ioctls cardIoctls }

// Enable wants both directions: a hardware stamp on one side and a software stamp on the
// other would differ by microseconds, which looks like an offset.
func (s systemCards) Enable(ifname string) (int, func() error, error) {
	info, err := s.ioctls.Info(ifname)
	if err != nil {
		return 0, nil, fmt.Errorf("ask what the card can do: %w", err)
	}
	filter, err := chooseFilter(info)
	if err != nil {
		return 0, nil, err
	}
	before, err := s.ioctls.Stamping(ifname)
	if err != nil {
		before = &unix.HwTstampConfig{} // older drivers do not tell; off is the default
	}
	err = s.ioctls.SetStamping(ifname, &unix.HwTstampConfig{Tx_type: unix.HWTSTAMP_TX_ON, Rx_filter: filter})
	if err != nil {
		return 0, nil, fmt.Errorf("make the card stamp: %w", err)
	}
	undo := func() error {
		old := unix.HwTstampConfig{Tx_type: before.Tx_type, Rx_filter: before.Rx_filter}
		if err := s.ioctls.SetStamping(ifname, &old); err != nil && !isNoInterface(err) {
			return fmt.Errorf("restore the stamping of %s: %w", ifname, err)
		}
		return nil
	}
	return int(info.Phc_index), undo, nil
}

// chooseFilter picks what the card shall stamp of what it receives: NTP alone if it can.
func chooseFilter(info *unix.EthtoolTsInfo) (int32, error) {
	const needed = unix.SOF_TIMESTAMPING_TX_HARDWARE | unix.SOF_TIMESTAMPING_RX_HARDWARE | unix.SOF_TIMESTAMPING_RAW_HARDWARE
	switch {
	case info.So_timestamping&needed != needed || info.Phc_index < 0:
		return 0, errors.New("the card has no clock of its own; leave the interface out")
	case info.Tx_types&(1<<unix.HWTSTAMP_TX_ON) == 0:
		return 0, errors.New("the card does not stamp what it sends; leave the interface out")
	case info.Rx_filters&(1<<unix.HWTSTAMP_FILTER_NTP_ALL) != 0:
		return unix.HWTSTAMP_FILTER_NTP_ALL, nil
	case info.Rx_filters&(1<<unix.HWTSTAMP_FILTER_ALL) != 0:
		return unix.HWTSTAMP_FILTER_ALL, nil
	}
	return 0, errors.New("the card stamps PTP alone of what it receives; leave the interface out")
}

func (s systemCards) Open(clock int) (CardClock, error) {
	f, err := os.Open(fmt.Sprintf("/dev/ptp%d", clock))
	if err != nil {
		return nil, err
	}
	return &ptpClock{file: f, read: readOffset}, nil
}

// ptpClock is a PTP hardware clock of the kernel.
type ptpClock struct {
	file *os.File
	read func(fd int) (*unix.PtpSysOffsetExtended, error)
}

func readOffset(fd int) (*unix.PtpSysOffsetExtended, error) {
	return unix.IoctlPtpSysOffsetExtended(fd, comparisons)
}

func (p *ptpClock) Compare() (int64, ntptime.Wall, time.Duration, error) {
	offset, err := p.read(int(p.file.Fd()))
	if err != nil {
		return 0, 0, 0, err
	}
	return tightest(offset)
}

func (p *ptpClock) Close() error { return p.file.Close() }

// tightest picks the comparison with the least time between the readings of the
// system's clock around the card's.
func tightest(o *unix.PtpSysOffsetExtended) (card int64, realtime ntptime.Wall, width time.Duration, err error) {
	found := false
	for _, ts := range o.Ts[:min(int(o.Samples), len(o.Ts))] {
		before, at, after := ptpTime(ts[0]), ptpTime(ts[1]), ptpTime(ts[2])
		w := time.Duration(after - before)
		if w < 0 || found && w >= width {
			continue
		}
		found, card, realtime, width = true, at, ntptime.Wall(before+int64(w)/2), w
	}
	if !found {
		return 0, 0, 0, errors.New("the clock of the card gave no comparison")
	}
	return card, realtime, width, nil
}

func ptpTime(t unix.PtpClockTime) int64 { return t.Sec*1_000_000_000 + int64(t.Nsec) }

// ioctls asks the kernel.
type ioctls struct{}

func (ioctls) Info(ifname string) (info *unix.EthtoolTsInfo, err error) {
	err = onAnySocket(func(fd int) error {
		info, err = unix.IoctlGetEthtoolTsInfo(fd, ifname)
		return err
	})
	return info, err
}

func (ioctls) Stamping(ifname string) (cfg *unix.HwTstampConfig, err error) {
	err = onAnySocket(func(fd int) error {
		cfg, err = unix.IoctlGetHwTstamp(fd, ifname)
		return err
	})
	return cfg, err
}

func (ioctls) SetStamping(ifname string, cfg *unix.HwTstampConfig) error {
	return onAnySocket(func(fd int) error { return unix.IoctlSetHwTstamp(fd, ifname, cfg) })
}

// onAnySocket runs f on a socket that serves for nothing else.
func onAnySocket(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	return errors.Join(f(fd), unix.Close(fd))
}
