package cli

import (
	"os"

	"github.com/spf13/cobra"

	"timeball/internal/config"
	"timeball/internal/daemon"
	"timeball/internal/logging"
)

// newReleaseClock is for the unit's ExecStopPost= and not for people.
func newReleaseClock() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:    "release-clock",
		Hidden: true,
		Short:  "After the daemon's end: put the clock's rate back, and say that nobody keeps it",
		Long: "After the daemon's end: put the clock's tick and frequency back to the last lasting ones, so\n" +
			"that no slew goes on for good, and tell the kernel that its clock is not synchronized where\n" +
			"the end was not in order (SERVICE_RESULT, systemd.exec(5)). For ExecStopPost= of the unit.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			cfg, _, err := config.Load(path)
			if err != nil {
				return err
			}
			log, _, err := logging.New(cfg.Log)
			if err != nil {
				return err
			}
			defer func() { _ = log.Sync() }()
			return daemon.ReleaseClock(cfg, os.Getenv("SERVICE_RESULT") == "success", log)
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}
