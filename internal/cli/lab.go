package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/lab"
	"timeball/internal/logging"
	"timeball/internal/scenario"
)

// labOptions are the flags of `timeball lab`.
type labOptions struct {
	duration time.Duration
	asJSON   bool
	logs     bool
}

func newLab() *cobra.Command {
	var o labOptions
	cmd := &cobra.Command{
		Use:   "lab SCENARIO.yaml",
		Short: "Run a scenario in real time: real daemons over loopback, with virtual clocks",
		Long: "Run a scenario in real time. Every host is a real daemon with a virtual clock, at an\n" +
			"address of its own in 127.0.0.0/8, and they talk over real UDP. It needs neither root nor\n" +
			"network and touches no clock. Of a scenario's events it plays stop, start and offset_step;\n" +
			"the others, the links and reference clocks are for `simulate`. Exit 1 if a host is not synchronized at the end.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLab(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], &o)
		},
	}
	addSpan(cmd, &o.duration, "duration", "", 0, "stop after this long; 0: when interrupted")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the final state of every host as JSON")
	cmd.Flags().BoolVar(&o.logs, "log", false, "show the log of every host")
	return cmd
}

// runLab runs a scenario and shows it; it fails if a host is not synchronized at the end.
func runLab(ctx context.Context, stdout, stderr io.Writer, path string, o *labOptions) error {
	scenario, err := scenario.Load(path)
	if err != nil {
		return err
	}
	if text := notPlayed(scenario); text != "" {
		fmt.Fprintln(stderr, "timeball:", text)
	}
	log := zap.NewNop()
	if o.logs {
		if log, _, err = logging.New(config.Log{Level: config.LevelInfo, Format: config.FormatConsole}); err != nil {
			return err
		}
	}
	l, err := lab.Open(scenario, lab.Options{Log: log, Version: version})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := newScreen(stdout, o.asJSON).draw(l.State()); err != nil { // the clocks as they start
		return err
	}
	ctx, cancel := within(ctx, o.duration)
	failed := make(chan error, 1)
	go func() { failed <- l.Run(ctx) }()
	state, err := watchLab(ctx, stdout, l, failed, o)
	cancel()
	if err = errors.Join(err, <-failed); err != nil {
		return err
	}
	return concludeLab(newScreen(stdout, o.asJSON), state, o)
}

// notPlayed says what of a scenario the lab leaves out; "" if nothing.
func notPlayed(s *scenario.Scenario) string {
	left := len(s.Links)
	for i := range s.Events {
		if !lab.Plays(&s.Events[i]) {
			left++
		}
	}
	if left == 0 {
		return ""
	}
	return "the links of this scenario, and its events other than stop, start and offset_step, are for `timeball simulate`; the lab has the loopback as it is"
}

// watchLab shows the lab until it ends and returns its last state.
func watchLab(ctx context.Context, w io.Writer, l *lab.Lab, failed chan error, o *labOptions) (lab.State, error) {
	screen := newScreen(w, o.asJSON)
	ticker := time.NewTicker(screen.interval)
	defer ticker.Stop()
	for {
		select {
		case err := <-failed:
			failed <- err // for the caller
			return l.State(), nil
		case <-ctx.Done():
			return l.State(), nil // before the daemons have stopped
		case <-ticker.C:
			if ends(ctx, screen.interval/2) {
				continue // the last table comes anyway
			}
			if err := screen.draw(l.State()); err != nil {
				return lab.State{}, err
			}
		}
	}
}

// ends says whether ctx has ended or will do so within d.
func ends(ctx context.Context, d time.Duration) bool {
	deadline, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && time.Until(deadline) < d
}

// concludeLab shows how it ended.
func concludeLab(s *screen, state lab.State, o *labOptions) error {
	missing := state.Unsynchronized()
	if o.asJSON {
		if err := printJSON(s.w, state); err != nil {
			return err
		}
	} else if err := s.draw(state); err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("not synchronized at the end: %s", strings.Join(missing, ", "))
	}
	if name, worst := state.Worst(); !o.asJSON && name != "" {
		_, err := fmt.Fprintf(s.w, "all %d hosts synchronized; largest true error %s (%s)\n", state.Running(), formatTime(worst), name)
		return err
	}
	return nil
}

// screen shows a changing state: redrawn in place on a terminal, else now and then.
type screen struct {
	w        io.Writer
	silent   bool
	terminal bool
	interval time.Duration
}

func newScreen(w io.Writer, silent bool) *screen {
	s := &screen{w: w, silent: silent, interval: 5 * time.Second}
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			s.terminal, s.interval = true, 500*time.Millisecond
		}
	}
	return s
}

func (s *screen) draw(state lab.State) error {
	if s.silent {
		return nil
	}
	if s.terminal {
		fmt.Fprint(s.w, clearScreen)
	}
	return printLab(s.w, state)
}

// printLab prints a row a host and below it a row a source.
func printLab(w io.Writer, state lab.State) error {
	fmt.Fprintf(w, "after %.0f s; offsets are reference - clock: positive, the clock is behind\n", state.Elapsed)
	var t table
	t.row("HOST", "TRUE OFFSET", "BOUND", "ST", "  SOURCE", "MODE")
	for _, name := range state.Names() {
		h := state.Hosts[name]
		row := labHost(name, &h)
		if len(h.Sources) == 0 {
			t.row(append(row, referenceMark(&h), "")...)
		}
		for i := range h.Sources {
			s := &h.Sources[i]
			t.row(append(row, stateMarks[s.State]+" "+hostOf(s), strings.TrimSuffix(s.Mode, "-client"))...)
			row = []string{"", "", "", ""}
		}
	}
	if err := t.print(w); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// referenceMark stands for the sources of a host that has none.
func referenceMark(h *lab.HostState) string {
	if !h.Synchronized || h.ReferenceID == "" {
		return ""
	}
	return "  (" + h.ReferenceID + ")"
}

// labHost is a host's own part of its row. The truth has the sign of an offset here.
func labHost(name string, h *lab.HostState) []string {
	row := []string{name, formatOffset(-h.TrueError), "-", "-"}
	switch {
	case h.Stopped:
		row[2] = "stopped"
	case h.Synchronized:
		row[2], row[3] = "± "+formatBound(h.ErrorBound), fmt.Sprint(h.Stratum)
	}
	return row
}

// hostOf is a source's name in the lab; of one that is listened to, its address.
func hostOf(s *control.Source) string {
	if host, _, err := net.SplitHostPort(s.Address); err == nil && strings.HasPrefix(s.Name, "broadcast_client") || strings.HasPrefix(s.Name, "multicast_client") {
		return host
	}
	return bareName(s.Name, s.Address)
}
