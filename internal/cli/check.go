package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/daemon"
	"timeball/internal/state"
	"timeball/internal/wire"
)

func newCheck() *cobra.Command {
	var path string
	var probe bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate a configuration",
		Long: "Validate a configuration: every problem as FILE:LINE:COL: path: what; what to do, and\n" +
			"warnings for what is valid but a trap. With --probe each source is asked once.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return checkConfig(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), path, probe)
		},
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().BoolVar(&probe, "probe", false, "ask each source once and say what would be selected")
	return cmd
}

func checkConfig(ctx context.Context, stdout, stderr io.Writer, path string, probe bool) error {
	cfg, warnings, err := config.Load(path)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return errQuiet
	}
	for _, warning := range warnings {
		fmt.Fprintln(stderr, "warning:", warning)
	}
	for _, text := range daemon.LeapWarnings(cfg) {
		fmt.Fprintln(stderr, "warning:", text)
	}
	for _, text := range ntsWarnings(cfg, time.Now()) {
		fmt.Fprintln(stderr, "warning:", text)
	}
	for _, text := range stateWarnings(cfg) {
		fmt.Fprintln(stderr, "warning:", text)
	}
	for _, text := range interfaceWarnings(cfg) {
		fmt.Fprintln(stderr, "warning:", text)
	}
	daemon.LookAtClocks(cfg, func(_ string, _ error, risk string) {
		if risk != "" {
			fmt.Fprintln(stderr, "warning:", risk)
		}
	})
	fmt.Fprintf(stdout, "%s: good\n", path)
	if !probe {
		return nil
	}
	return probeSources(ctx, stdout, stderr, cfg)
}

// lookAtClocks says whether the devices of the reference clocks are there: their readings
// are the daemon's, who may be at them. alone: there is nothing else to be probed.
func lookAtClocks(stdout, stderr io.Writer, cfg *config.Config) (alone bool, err error) {
	there := 0
	alone = len(cfg.Sources) > 0
	for i := range cfg.Sources {
		alone = alone && cfg.Sources[i].Kind == config.RefclockSource
	}
	daemon.LookAtClocks(cfg, func(name string, fault error, _ string) {
		if fault != nil {
			fmt.Fprintf(stderr, "warning: %s: %v\n", name, fault)
			return
		}
		there++
		fmt.Fprintf(stdout, "  %s: a reference clock, not asked here; its device can be read\n", name)
	})
	if alone && there == 0 {
		err = errors.New("no source would be selected: no reference clock's device can be read")
	}
	return alone, err
}

// stateWarnings are what is wrong with the folders that outlast the daemon: without them it
// runs, and forgets its frequency and its panic gate.
func stateWarnings(cfg *config.Config) (list []string) {
	looked := ""
	for _, one := range []struct{ key, path string }{
		{"clock.state_dir", cfg.Clock.StateDir}, {"clock.drift_file", cfg.Clock.DriftFile},
	} {
		folder := one.path
		if one.key == "clock.drift_file" {
			folder = filepath.Dir(one.path)
		}
		if one.path == "" || folder == looked {
			continue
		}
		looked = folder
		if err := state.Usable(folder); err != nil {
			list = append(list, fmt.Sprintf("%s: %v", one.key, err))
		}
	}
	if folder := cfg.Statistics.Directory; folder != "" {
		for parent := filepath.Dir(folder); !exists(folder) && parent != folder; parent = filepath.Dir(folder) {
			folder = parent // the daemon makes what is missing
		}
		if err := state.Usable(folder); err != nil {
			list = append(list, fmt.Sprintf("statistics.directory: the daemon will not start: %v", err))
		}
	}
	return list
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// probeSources asks every source once and prints what selection makes of it.
func probeSources(ctx context.Context, stdout, stderr io.Writer, cfg *config.Config) error {
	if alone, err := lookAtClocks(stdout, stderr, cfg); alone {
		return err
	}
	snapshot, faults, err := daemon.ProbeSources(ctx, cfg, lookUp)
	for _, fault := range faults {
		fmt.Fprintln(stderr, "warning:", fault)
	}
	if err != nil {
		return err
	}
	report := control.SourcesReport(snapshot, snapshot.At)
	if err := printProbed(stdout, &report); err != nil {
		return err
	}
	if snapshot.SystemPeer == 0 {
		return errors.New("no source would be selected")
	}
	return nil
}

// printProbed prints what is known after one exchange: no poll interval, no reach.
func printProbed(w io.Writer, s *control.Sources) error {
	var t table
	t.row("  SOURCE", "STATE", "ST", "OFFSET", "ERROR", "DELAY")
	for i := range s.Sources {
		r := &s.Sources[i]
		row := []string{stateMarks[r.State] + " " + label(r), r.State, "-", "-", "-", "-"}
		if r.Stratum < wire.MaxStratum {
			row[2] = strconv.Itoa(r.Stratum)
		}
		if r.Samples > 0 {
			row[3], row[4], row[5] = formatOffset(r.Offset), "± "+formatTime(r.Error), formatTime(r.Delay)
		}
		t.row(row...)
	}
	if err := t.print(w); err != nil {
		return err
	}
	printReasons(w, s, true)
	return nil
}
