package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/config"
	"timeball/internal/control"
)

func newAcceptCorrection() *cobra.Command {
	var flags reportFlags
	cmd := &cobra.Command{
		Use:   "accept-correction [SIZE]",
		Short: "Let the correction through that clock.panic refuses, and no other",
		Long: "Let the correction through that clock.panic refuses: the clock is set by it at once. SIZE is\n" +
			"what `timeball status` says is refused, to the second; without it the size is shown, and has\n" +
			"to be typed. If the correction has another size by then it stays refused, and all others do.\n" +
			"First make sure that the sources are right and this clock is wrong.",
		DisableFlagParsing: true, // -8h52m is a size
	}
	flags.add(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		size, given, err := sizeAmong(cmd, args)
		if err != nil || cmd.Flags().Lookup("help") != nil && cmd.Flags().Lookup("help").Changed {
			return orHelp(cmd, err)
		}
		if !given {
			if size, err = askForSize(cmd.Context(), flags.socket, cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
				return err
			}
		}
		r := report[control.Stepped]{
			request: control.Request{Command: control.CommandAccept, Args: map[string]string{"size": size.String()}},
			print:   printStepped,
		}
		return r.once(cmd.Context(), cmd.OutOrStdout(), &flags)
	}
	return cmd
}

func printStepped(w io.Writer, s *control.Stepped) error {
	text := "the clock was set by %s\n"
	if s.Observed {
		text = "the time worked out was set by %s; the machine's clock is only observed, and was left alone\n"
	}
	_, err := fmt.Fprintf(w, text, formatOffset(s.Offset))
	return err
}

func orHelp(cmd *cobra.Command, err error) error {
	if err != nil {
		return err
	}
	return cmd.Help()
}

// sizeAmong takes the size out of the arguments, which may begin with a sign, and parses
// the rest as flags.
func sizeAmong(cmd *cobra.Command, args []string) (size time.Duration, given bool, err error) {
	var rest []string
	for _, a := range args {
		d, err := parseSize(a)
		if err != nil {
			rest = append(rest, a)
			continue
		}
		if given {
			return 0, false, usageError{fmt.Errorf("two sizes, %s and %s; give the one that is refused", size, d)}
		}
		size, given = d, true
	}
	if err := cmd.Flags().Parse(rest); err != nil {
		return 0, false, usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	}
	if left := cmd.Flags().Args(); len(left) > 0 {
		return 0, false, usageError{fmt.Errorf("%q is no size; write it as status does: -31939s, +8h52m19s", left[0])}
	}
	return size, given, nil
}

// parseSize reads a duration with a sign, as reports print it or the configuration has it.
func parseSize(text string) (time.Duration, error) {
	text = strings.ReplaceAll(strings.TrimSpace(text), " ", "")
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	return config.ParseDuration(text)
}

// askForSize shows what is refused and has the operator type it.
func askForSize(ctx context.Context, socket string, in io.Reader, out io.Writer) (time.Duration, error) {
	raw, err := control.Call(ctx, socket, control.Request{Command: control.CommandTracking})
	if err != nil {
		return 0, err
	}
	var t control.Tracking
	if err := json.Unmarshal(raw, &t); err != nil {
		return 0, err
	}
	if t.PanicOffset == 0 {
		return 0, errors.New("no correction is being refused")
	}
	fmt.Fprintf(out, "A correction of %s is refused, because it is beyond clock.panic.\nIf the sources are right and this clock is wrong, type its size: ",
		formatOffset(t.PanicOffset))
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		fmt.Fprintln(out)
		return 0, fmt.Errorf("no size typed, nothing was changed; to let it through: timeball accept-correction %s",
			strings.ReplaceAll(formatOffset(t.PanicOffset), " ", ""))
	}
	size, err := parseSize(line)
	if err != nil {
		return 0, fmt.Errorf("%q is no size; nothing was changed", strings.TrimSpace(line))
	}
	return size, nil
}
