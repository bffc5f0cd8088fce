package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"timeball/internal/scenario"
	"timeball/internal/simulate"
)

// maxRuns bounds --runs and --parallel.
const maxRuns = 100_000

// simulateOptions are the flags of `timeball simulate`.
type simulateOptions struct {
	asJSON   bool
	csv, svg string
	parallel int
	seed     int64
	runs     int
}

func newSimulate() *cobra.Command {
	var o simulateOptions
	cmd := &cobra.Command{
		Use:   "simulate SCENARIO.yaml",
		Short: "Run whole hosts in virtual time over modelled clocks and networks",
		Long: "Run whole timeball hosts in virtual time, with the daemon's own code, over the clocks\n" +
			"and networks that a scenario describes, and print how wrong each host's clock was. The\n" +
			"same file, seed and version give the same output. Exit 1 if an expectation is not met.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSimulate(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], &o)
		},
	}
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&o.csv, "csv", "", "write the true error of each host over time to `FILE`")
	cmd.Flags().StringVar(&o.svg, "svg", "", "draw the true error of each host to `FILE`")
	cmd.Flags().IntVar(&o.parallel, "parallel", 0, "runs at the same time; 0: one a core")
	cmd.Flags().IntVar(&o.runs, "runs", 0, "runs in place of the scenario's number")
	cmd.Flags().Int64Var(&o.seed, "seed", -1, "first seed in place of the scenario's")
	return cmd
}

func runSimulate(ctx context.Context, stdout, stderr io.Writer, path string, o *simulateOptions) error {
	if err := errors.Join(inRange("runs", o.runs, 0, maxRuns), inRange("parallel", o.parallel, 0, maxRuns)); err != nil {
		return err
	}
	if o.seed < -1 {
		return usageError{fmt.Errorf("--seed %d: want 0 or more", o.seed)}
	}
	scenario, err := scenario.Load(path)
	if err != nil {
		return err
	}
	if o.runs > 0 {
		scenario.Runs = o.runs
	}
	if o.seed >= 0 {
		scenario.Seed = uint64(o.seed)
	}
	result, err := simulate.Run(ctx, scenario, simulate.Options{
		Parallel: o.parallel, Series: o.csv != "" || o.svg != "", Progress: progress(stderr),
	})
	if err != nil {
		return err
	}
	if err := writeResult(stdout, result, o); err != nil {
		return err
	}
	violations := result.Violations()
	for _, text := range violations {
		fmt.Fprintln(stderr, "timeball: expected otherwise:", text)
	}
	if len(violations) > 0 {
		return errQuiet
	}
	return nil
}

// progress shows how far the runs are, on a terminal only.
func progress(w io.Writer) func(float64) {
	file, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return func(share float64) {
		fmt.Fprintf(w, "\r%3.0f %%", 100*share)
		if share >= 1 {
			fmt.Fprint(w, "\r     \r")
		}
	}
}

// writeResult prints the statistics and writes the files asked for.
func writeResult(w io.Writer, result *simulate.Result, o *simulateOptions) error {
	write := result.WriteTable
	if o.asJSON {
		write = result.WriteJSON
	}
	return errors.Join(write(w), writeFile(o.csv, result.WriteCSV), writeFile(o.svg, result.WriteSVG))
}

// writeFile writes to a file, if one is named.
func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
