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

// SystemNICs is the kernel's interface to the NICs of this machine: ethtool and
// SIOCSHWTSTAMP for timestamping, /dev/ptpN for their clocks.
func SystemNICs() NICSystem { return systemNICs{ioctls{}} }

// nicIoctls are the system calls behind it.
type nicIoctls interface {
	Info(ifname string) (*unix.EthtoolTsInfo, error)
	Timestamping(ifname string) (*unix.HwTstampConfig, error)
	SetTimestamping(ifname string, cfg *unix.HwTstampConfig) error
}

type systemNICs struct{ ioctls nicIoctls }

// Enable wants both directions: a hardware timestamp on one side and a software timestamp on the
// other would differ by microseconds, which looks like an offset.
func (s systemNICs) Enable(ifname string) (int, func() error, error) {
	info, err := s.ioctls.Info(ifname)
	if err != nil {
		return 0, nil, fmt.Errorf("ask what the NIC can do: %w", err)
	}
	filter, err := chooseFilter(info)
	if err != nil {
		return 0, nil, err
	}
	before, err := s.ioctls.Timestamping(ifname)
	if err != nil {
		before = &unix.HwTstampConfig{} // older drivers do not tell; off is the default
	}
	err = s.ioctls.SetTimestamping(ifname, &unix.HwTstampConfig{Tx_type: unix.HWTSTAMP_TX_ON, Rx_filter: filter})
	if err != nil {
		return 0, nil, fmt.Errorf("make the NIC timestamp: %w", err)
	}
	undo := func() error {
		old := unix.HwTstampConfig{Tx_type: before.Tx_type, Rx_filter: before.Rx_filter}
		if err := s.ioctls.SetTimestamping(ifname, &old); err != nil && !isNoInterface(err) {
			return fmt.Errorf("restore the timestamping of %s: %w", ifname, err)
		}
		return nil
	}
	return int(info.Phc_index), undo, nil
}

// chooseFilter picks what the NIC shall timestamp of what it receives: NTP alone if it can.
func chooseFilter(info *unix.EthtoolTsInfo) (int32, error) {
	const needed = unix.SOF_TIMESTAMPING_TX_HARDWARE | unix.SOF_TIMESTAMPING_RX_HARDWARE | unix.SOF_TIMESTAMPING_RAW_HARDWARE
	switch {
	case info.So_timestamping&needed != needed || info.Phc_index < 0:
		return 0, errors.New("the NIC has no clock of its own; leave the interface out")
	case info.Tx_types&(1<<unix.HWTSTAMP_TX_ON) == 0:
		return 0, errors.New("the NIC does not timestamp what it sends; leave the interface out")
	case info.Rx_filters&(1<<unix.HWTSTAMP_FILTER_NTP_ALL) != 0:
		return unix.HWTSTAMP_FILTER_NTP_ALL, nil
	case info.Rx_filters&(1<<unix.HWTSTAMP_FILTER_ALL) != 0:
		return unix.HWTSTAMP_FILTER_ALL, nil
	}
	return 0, errors.New("the NIC timestamps PTP alone of what it receives; leave the interface out")
}

func (s systemNICs) Open(clock int) (HardwareClock, error) {
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
// system's clock around the NIC's.
func tightest(o *unix.PtpSysOffsetExtended) (nic int64, realtime ntptime.Wall, width time.Duration, err error) {
	found := false
	for _, ts := range o.Ts[:min(int(o.Samples), len(o.Ts))] {
		before, at, after := ptpTime(ts[0]), ptpTime(ts[1]), ptpTime(ts[2])
		w := time.Duration(after - before)
		if w < 0 || found && w >= width {
			continue
		}
		found, nic, realtime, width = true, at, ntptime.Wall(before+int64(w)/2), w
	}
	if !found {
		return 0, 0, 0, errors.New("the clock of the NIC gave no comparison")
	}
	return nic, realtime, width, nil
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

func (ioctls) Timestamping(ifname string) (cfg *unix.HwTstampConfig, err error) {
	err = onAnySocket(func(fd int) error {
		cfg, err = unix.IoctlGetHwTstamp(fd, ifname)
		return err
	})
	return cfg, err
}

func (ioctls) SetTimestamping(ifname string, cfg *unix.HwTstampConfig) error {
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
