// Package cli is timeball's command line: one file a command, flags in, tables
// out. What a command does is done elsewhere.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit statuses: 0 good, 1 the thing asked for is not so, 2 wrong usage.
const (
	exitGood  = 0
	exitNotSo = 1
	exitUsage = 2
)

// usageError marks an error as wrong usage.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// errQuiet ends a command with status 1 when it has said what is wrong already.
var errQuiet = errors.New("")

// Main runs one command line and returns the exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitGood
	}
	if !errors.Is(err, errQuiet) {
		fmt.Fprintln(stderr, "timeball:", err)
	}
	if usage := (usageError{}); errors.As(err, &usage) {
		return exitUsage
	}
	return exitNotSo
}

// newRoot builds the tree of commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "timeball",
		Short: "An NTP daemon with every mode, honest answers and modern operations",
		Long: "timeball keeps a computer's clock right and serves time to others, over NTP in\n" +
			"all its modes. One binary is the daemon, its reports, its simulator and its lab.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "daemon", Title: "The daemon:"},
		&cobra.Group{ID: "report", Title: "Reports of a running daemon:"},
		&cobra.Group{ID: "try", Title: "Trying things out:"},
	)
	addGroup(root, "daemon", newRun(), newCheck(), newKeygen())
	addGroup(root, "report", newStatus(), newSources(), newExplain(), newTracking(), newAssociations(),
		newTrace(), newClients(), newServerStats(), newWait())
	addGroup(root, "try", newQuery(), newLab(), newSimulate())
	root.AddCommand(newVersion())
	root.CompletionOptions.HiddenDefaultCmd = false
	return root
}

func addGroup(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// usageArgs makes a wrong number of arguments a matter of usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}
