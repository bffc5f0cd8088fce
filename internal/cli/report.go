package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

// socketVariable names the environment variable that says where the daemon is.
const socketVariable = "TIMEBALL_SOCKET"

// report is one of the daemon's reports as a command: a question, and how its answer
// is printed for people.
type report[T any] struct {
	use, short, long string
	request          control.Request
	takesSource      bool // one optional argument: a source
	single           bool // asked once: no --watch
	print            func(w io.Writer, answer *T) error
	flags            func(cmd *cobra.Command, r *control.Request)
}

// request is something that the daemon is asked to do, as a command. It is a report that
// is not repeated.
type request[T any] report[T]

func (r request[T]) command() *cobra.Command {
	once := report[T](r)
	once.single = true
	return once.command()
}

// reportFlags are the flags that all reports have.
type reportFlags struct {
	socket   string
	asJSON   bool
	watch    bool
	interval time.Duration
}

func (f *reportFlags) add(cmd *cobra.Command, repeats bool) {
	addSocketFlag(cmd, &f.socket)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	if !repeats {
		return
	}
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "redraw until interrupted")
	addSpan(cmd, &f.interval, "interval", "", 2*time.Second, "time between redraws with --watch")
}

func addSocketFlag(cmd *cobra.Command, socket *string) {
	byDefault := os.Getenv(socketVariable)
	if byDefault == "" {
		byDefault = control.DefaultSocket
	}
	cmd.Flags().StringVar(socket, "socket", byDefault, "control `SOCKET` of the daemon (or "+socketVariable+")")
}

// command makes the cobra command of a report.
func (r report[T]) command() *cobra.Command {
	var flags reportFlags
	cmd := &cobra.Command{Use: r.use, Short: r.short, Long: r.long, Args: usageArgs(cobra.NoArgs)}
	if r.takesSource {
		cmd.Args = usageArgs(cobra.MaximumNArgs(1))
	}
	flags.add(cmd, !r.single)
	if r.flags != nil {
		r.flags(cmd, &r.request)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			r.request.Source = args[0]
		}
		if flags.watch {
			return r.repeat(cmd.Context(), cmd.OutOrStdout(), &flags)
		}
		return r.once(cmd.Context(), cmd.OutOrStdout(), &flags)
	}
	return cmd
}

// once asks and prints.
func (r *report[T]) once(ctx context.Context, w io.Writer, flags *reportFlags) error {
	raw, err := control.Call(ctx, flags.socket, r.request)
	if err != nil {
		return err
	}
	if flags.asJSON {
		return printJSON(w, raw)
	}
	var answer T
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("the daemon's answer is not understood: %w; are daemon and command of one version?", err)
	}
	return r.print(w, &answer)
}

// clearScreen moves the cursor home and clears what is below it.
const clearScreen = "\033[H\033[J"

// repeat redraws until ctx ends, which is no error.
func (r *report[T]) repeat(ctx context.Context, w io.Writer, flags *reportFlags) error {
	ticker := time.NewTicker(max(flags.interval, 100*time.Millisecond))
	defer ticker.Stop()
	for {
		if !flags.asJSON {
			fmt.Fprint(w, clearScreen)
		}
		if err := r.once(ctx, w, flags); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
