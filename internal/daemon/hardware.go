package daemon

import (
	"context"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/netio"
)

// openHardware makes the NICs timestamp that a configuration names; nil where it
// names none. A named NIC that cannot timestamp is an error, not a silent loss of accuracy;
// one that is not there yet is told.
func openHardware(d *Daemon, cfg *config.Config) (*netio.Hardware, error) {
	if len(cfg.HardwareTimestamps) == 0 {
		return nil, nil
	}
	hardware, err := netio.OpenHardware(cfg.HardwareTimestamps, d.netClock(), netio.SystemNICs())
	if err != nil {
		return nil, err
	}
	for _, name := range hardware.Absent() {
		d.log.Warn("no hardware timestamps on an interface that this machine does not have; will make them once it is there", zap.String("interface", name))
	}
	return hardware, nil
}

// followNICs is a goroutine: it compares the NICs' clocks with ours.
func (d *parts) followNICs(ctx context.Context) error {
	if d.hardware != nil {
		d.hardware.Run(ctx)
	}
	return nil
}

// refreshNICs makes NICs timestamp that have come back.
func (d *parts) refreshNICs() {
	if d.hardware == nil {
		return
	}
	if err := d.hardware.Refresh(); err != nil {
		d.log.Warn("NICs have changed, and not all of them timestamp", zap.Error(err))
	}
}

// closeHardware gives the NICs back as they were.
func (d *parts) closeHardware() {
	if d.hardware == nil {
		return
	}
	if err := d.hardware.Close(); err != nil {
		d.log.Warn("NICs not left as they were", zap.Error(err))
	}
}
