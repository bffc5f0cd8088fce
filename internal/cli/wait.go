package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

// waitPoll is how often the daemon is asked.
const waitPoll = 200 * time.Millisecond

func newWait() *cobra.Command {
	var socket string
	var timeout, maxError time.Duration
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the clock is synchronized",
		Long: "Wait until the clock is synchronized, and with --max-error until its error bound is\n" +
			"below that. Exit 0 then, 1 when the timeout is over first; what was missing is said.\n" +
			"Where the clock is only observed, --max-error is about the machine's clock.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return waitSynchronized(cmd.Context(), cmd.OutOrStdout(), socket, timeout, maxError)
		},
	}
	addSocketFlag(cmd, &socket)
	addSpan(cmd, &timeout, "timeout", "", 0, "give up after this long; 0: never")
	addSpan(cmd, &maxError, "max-error", "", 0, "also wait for an error bound below this; 0: any")
	return cmd
}

func waitSynchronized(ctx context.Context, w io.Writer, socket string, timeout, maxError time.Duration) error {
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(waitPoll)
	defer ticker.Stop()
	missing := errors.New("the daemon has not answered yet")
	for {
		machine, now := stillMissing(ctx, socket, maxError)
		switch {
		case now == nil:
			if machine != nil {
				fmt.Fprintf(w, "synchronized, but the machine's clock is only observed: %s, %s\n", offsetWords(machine.Offset), errorAtMost(machine.ErrorBound))
			}
			return nil
		case !over(ctx): // else it says that the time was over, which is no reason
			missing = now
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not synchronized: %w", missing)
		case <-ticker.C:
		}
	}
}

// over reports whether ctx has ended, or is about to: a socket's deadline may come first.
func over(ctx context.Context) bool {
	deadline, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && time.Until(deadline) <= 0
}

// within gives ctx a limit; 0: none.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// stillMissing says what is to be waited for; nil if nothing is. A daemon that does
// not answer may still be starting. The machine's clock is told where it is only observed.
func stillMissing(ctx context.Context, socket string, maxError time.Duration) (machine *control.Machine, missing error) {
	raw, err := control.Call(ctx, socket, control.Request{Command: control.CommandStatus})
	if err != nil {
		return nil, err
	}
	var s control.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("the daemon's answer is not understood: %w; are daemon and command of one version?", err)
	}
	bound, whose := s.ErrorBound, "the error bound"
	if s.Machine != nil {
		bound, whose = s.Machine.ErrorBound, "the machine's clock is only observed, and its error bound"
	}
	switch {
	case !s.Synchronized:
		return nil, errors.New(unsynchronizedBecause(&s))
	case maxError > 0 && !bound.Known():
		return nil, fmt.Errorf("the error is not known: the clock was never set by a source (state %s)", s.State)
	case maxError > 0 && float64(bound) > maxError.Seconds():
		return nil, fmt.Errorf("%s is %s, above the %s wanted", whose, formatBound(bound), formatTime(maxError.Seconds()))
	}
	return s.Machine, nil
}

// unsynchronizedBecause says in one line why there is no time yet.
func unsynchronizedBecause(s *control.Status) string {
	switch {
	case s.PanicOffset != 0:
		return panicWords(&s.Tracking)
	case len(s.Sources) == 0:
		return "the daemon has no sources (state " + s.State + ")"
	}
	var used, others []string
	for i := range s.Sources {
		r := &s.Sources[i]
		if r.State == "selected" || r.State == "combined" {
			used = append(used, label(r))
		} else {
			others = append(others, label(r)+": "+r.Reason)
		}
	}
	switch {
	case len(used) > 0:
		return fmt.Sprintf("the daemon is still working out the time from %s (state %s)", strings.Join(used, ", "), s.State)
	case len(others) > maxReasons:
		others = append(others[:maxReasons], fmt.Sprintf("and %d more", len(others)-maxReasons))
	}
	return fmt.Sprintf("the daemon uses no source (state %s): %s", s.State, strings.Join(others, "; "))
}

// maxReasons bounds how many sources a line tells of.
const maxReasons = 4
