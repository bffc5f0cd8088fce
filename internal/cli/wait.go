package cli

import (
	"context"
	"encoding/json"
	"fmt"
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
			"below that. Exit 0 then, 1 when the timeout is over first.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return waitSynchronized(cmd.Context(), socket, timeout, maxError)
		},
	}
	addSocketFlag(cmd, &socket)
	addSpan(cmd, &timeout, "timeout", "", 0, "give up after this long; 0: never")
	addSpan(cmd, &maxError, "max-error", "", 0, "also wait for an error bound below this; 0: any")
	return cmd
}

func waitSynchronized(ctx context.Context, socket string, timeout, maxError time.Duration) error {
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(waitPoll)
	defer ticker.Stop()
	for {
		missing := stillMissing(ctx, socket, maxError)
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not synchronized: %w", missing)
		case <-ticker.C:
		}
	}
}

// within gives ctx a limit; 0: none.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// stillMissing says what is to be waited for; nil if nothing is. A daemon that does
// not answer may still be starting.
func stillMissing(ctx context.Context, socket string, maxError time.Duration) error {
	raw, err := control.Call(ctx, socket, control.Request{Command: control.CommandTracking})
	if err != nil {
		return err
	}
	var t control.Tracking
	if err := json.Unmarshal(raw, &t); err != nil {
		return err
	}
	switch {
	case !t.Synchronized:
		return fmt.Errorf("the daemon is in state %s", t.State)
	case maxError > 0 && !t.ErrorBound.Known():
		return fmt.Errorf("the error is not known: the clock was never set by a source (state %s)", t.State)
	case maxError > 0 && float64(t.ErrorBound) > maxError.Seconds():
		return fmt.Errorf("the error bound is %s", formatBound(t.ErrorBound))
	}
	return nil
}
