package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

// The exit statuses of monitoring plugins.
const (
	healthOK = iota
	healthWarning
	healthCritical
	healthUnknown
)

var healthWords = [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}

// healthOptions are the flags of `timeball health`.
type healthOptions struct {
	socket                string
	timeout               time.Duration
	warnError, critError  time.Duration
	warnAge, critAge      time.Duration
	warnSources, critLeft int
}

// statusError ends a command with an exit status of its own; it has said what is to be said.
type statusError int

func (s statusError) Error() string { return healthWords[s] }

func newHealth() *cobra.Command {
	var o healthOptions
	cmd := &cobra.Command{
		Use:   "health",
		Short: "One line and the exit status of a monitoring plugin",
		Long: "One line with performance data, and the exit status that monitoring plugins have: 0 OK,\n" +
			"1 WARNING, 2 CRITICAL, 3 UNKNOWN (nobody answers, or wrong usage). Critical is a clock that\n" +
			"is not synchronized, a refused correction, and what is over a --critical limit.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return healthUsage(cmd, fmt.Errorf("unknown argument %q", args[0]))
			}
			if o.warnSources < 0 || o.critLeft < 0 {
				return healthUsage(cmd, errors.New("a number of sources is 0 or more"))
			}
			status, line := o.check(cmd.Context())
			fmt.Fprintf(cmd.OutOrStdout(), "TIMEBALL %s - %s\n", healthWords[status], line)
			if status != healthOK {
				return statusError(status)
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(healthUsage)
	addSocketFlag(cmd, &o.socket)
	addSpan(cmd, &o.timeout, "timeout", "t", 10*time.Second, "give up after this long")
	addSpan(cmd, &o.warnError, "warning", "w", 50*time.Millisecond, "warn of an error bound above this")
	addSpan(cmd, &o.critError, "critical", "c", time.Second, "an error bound above this is critical")
	addSpan(cmd, &o.warnAge, "warning-age", "", 2*time.Hour, "warn of a last update older than this; 0s: never")
	addSpan(cmd, &o.critAge, "critical-age", "", 24*time.Hour, "a last update older than this is critical; 0s: never")
	cmd.Flags().IntVar(&o.warnSources, "warning-sources", 0, "warn of fewer sources in use than this")
	cmd.Flags().IntVar(&o.critLeft, "critical-sources", 0, "fewer sources in use than this are critical")
	return cmd
}

// healthUsage tells of wrong usage as monitors expect it: on stdout too, with status 3.
func healthUsage(cmd *cobra.Command, err error) error {
	fmt.Fprintf(cmd.OutOrStdout(), "TIMEBALL UNKNOWN - %v; see %s --help\n", err, cmd.CommandPath())
	return statusError(healthUnknown)
}

// check asks the daemon and judges what it says.
func (o *healthOptions) check(ctx context.Context) (status int, line string) {
	ctx, cancel := within(ctx, o.timeout)
	defer cancel()
	raw, err := control.Call(ctx, o.socket, control.Request{Command: control.CommandStatus})
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || over(ctx) {
			err = fmt.Errorf("the daemon at %s has not answered within %s", o.socket, o.timeout)
		}
		return healthUnknown, oneLine(err.Error())
	}
	var s control.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return healthUnknown, "the daemon's answer is not understood; are daemon and command of one version?"
	}
	status, reasons := o.judge(&s)
	if len(reasons) == 0 {
		reasons = []string{headline(&s.Tracking) + ", " + offsetWords(machineOffset(&s)) + ", " + errorAtMost(machineBound(&s))}
	}
	return status, oneLine(strings.Join(reasons, "; ")) + " | " + o.performance(&s)
}

// machineBound is the bound of the clock that programs here read.
func machineBound(s *control.Status) control.Bound {
	if s.Machine != nil {
		return s.Machine.ErrorBound
	}
	return s.ErrorBound
}

// machineOffset is how far that clock is off.
func machineOffset(s *control.Status) float64 {
	if s.Machine != nil {
		return s.Machine.Offset
	}
	return s.Offset
}

// judge finds what is wrong, and how much.
func (o *healthOptions) judge(s *control.Status) (status int, reasons []string) {
	find := func(level int, text string) {
		status = max(status, level)
		reasons = append(reasons, text)
	}
	bound, used := machineBound(s), usedSources(s)
	switch {
	case s.PanicOffset != 0:
		find(healthCritical, panicWords(&s.Tracking))
	case !s.Synchronized:
		find(healthCritical, "not synchronized: "+unsynchronizedBecause(s))
	case s.State == "holdover" || s.State == "local":
		find(healthWarning, headline(&s.Tracking))
	}
	if s.Synchronized {
		limit := func(what string, found, warning, critical float64, text string) {
			switch {
			case critical > 0 && found > critical:
				find(healthCritical, fmt.Sprintf("%s is %s, above %s", what, text, formatAgeOrTime(what, critical)))
			case warning > 0 && found > warning:
				find(healthWarning, fmt.Sprintf("%s is %s, above %s", what, text, formatAgeOrTime(what, warning)))
			}
		}
		if bound.Known() {
			limit("the error bound", float64(bound), o.warnError.Seconds(), o.critError.Seconds(), formatBound(bound))
		} else {
			find(healthWarning, "how wrong the clock may be is not known")
		}
		if s.LastUpdateAge != nil && s.State != "local" {
			limit("the last update", *s.LastUpdateAge, o.warnAge.Seconds(), o.critAge.Seconds(), formatAge(*s.LastUpdateAge)+" ago")
		}
	}
	switch {
	case used < o.critLeft:
		find(healthCritical, fmt.Sprintf("%s in use, fewer than %d", plural(used, "source"), o.critLeft))
	case used < o.warnSources:
		find(healthWarning, fmt.Sprintf("%s in use, fewer than %d", plural(used, "source"), o.warnSources))
	}
	if s.Daemon.ReloadError != "" {
		find(healthWarning, "the last reload was refused")
	}
	for _, l := range s.Daemon.NotListening {
		find(healthWarning, "nothing is served at "+l.Address)
	}
	return status, reasons
}

func formatAgeOrTime(what string, seconds float64) string {
	if strings.Contains(what, "update") {
		return formatAge(seconds)
	}
	return formatTime(seconds)
}

func usedSources(s *control.Status) (used int) {
	for i := range s.Sources {
		if state := s.Sources[i].State; state == "selected" || state == "combined" {
			used++
		}
	}
	return used
}

// performance is the data behind the bar: 'label'=value[unit];warn;crit;min;max.
func (o *healthOptions) performance(s *control.Status) string {
	bound := "U" // not known
	if b := machineBound(s); b.Known() {
		bound = fmt.Sprintf("%.9fs", float64(b))
	}
	return fmt.Sprintf("offset=%.9fs error_bound=%s;%s;%s;0 frequency=%.6f stratum=%d;;;0;16 sources=%d;%s;%s;0",
		machineOffset(s), bound, seconds(o.warnError), seconds(o.critError), s.Frequency*1e6, s.Stratum, usedSources(s), least(o.warnSources), least(o.critLeft))
}

// least is a range of the plugins that warns below a number; "" for none.
func least(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("%d:", n)
}

func seconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.9f", math.Abs(d.Seconds())), "0"), ".")
}

// oneLine keeps a text off what has a meaning to monitors: the bar, and line ends.
func oneLine(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "|", "/")), " ")
}
