package daemon

import (
	"context"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/netio"
)

// openHardware makes the network cards stamp that a configuration names; nil where it
// names none. A named card that cannot stamp is an error, not a silent loss of accuracy.
func openHardware(d *Daemon, cfg *config.Config) (*netio.Hardware, error) {
	if len(cfg.HardwareTimestamps) == 0 {
		return nil, nil
	}
	return netio.OpenHardware(cfg.HardwareTimestamps, d.netClock(), netio.SystemCards())
}

// followCards is a goroutine: it compares the cards' clocks with ours.
func (d *parts) followCards(ctx context.Context) error {
	if d.hardware != nil {
		d.hardware.Run(ctx)
	}
	return nil
}

// refreshCards makes cards stamp that have come back.
func (d *parts) refreshCards() {
	if d.hardware == nil {
		return
	}
	if err := d.hardware.Refresh(); err != nil {
		d.log.Warn("network cards have changed, and not all of them stamp", zap.Error(err))
	}
}

// closeHardware gives the cards back as they were.
func (d *parts) closeHardware() {
	if d.hardware == nil {
		return
	}
	if err := d.hardware.Close(); err != nil {
		d.log.Warn("network cards not left as they were", zap.Error(err))
	}
}
