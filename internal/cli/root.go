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
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit statuses: 0 good, 1 the thing asked for is not so, 64 wrong usage (EX_USAGE of
// sysexits(3)). A Go program that crashes ends with 2, so 2 says nothing else.
const (
	exitGood  = 0
	exitNotSo = 1
	exitUsage = 64
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
	addDefaults(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitGood
	}
	if status := statusError(0); errors.As(err, &status) {
		return int(status)
	}
	if !errors.Is(err, errQuiet) {
		fmt.Fprintln(stderr, "timeball:", err)
	}
	if usage := (usageError{}); errors.As(err, &usage) {
		return exitUsage
	}
	return exitNotSo
}

// Root is the tree of commands, for whoever writes manual pages and completions of it.
func Root() *cobra.Command { return newRoot() }

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
		&cobra.Group{ID: "change", Title: "Changing a running daemon:"},
		&cobra.Group{ID: "report", Title: "Reports of a running daemon:"},
		&cobra.Group{ID: "try", Title: "Trying things out:"},
	)
	addGroup(root, "daemon", newRun(), newCheck(), newConvert(), newKeygen(), newReleaseClock())
	addGroup(root, "change", newReload(), newOffline(), newOnline(), newBurst(), newStep(), newAcceptCorrection())
	addGroup(root, "report", newStatus(), newSources(), newExplain(), newTracking(), newAssociations(),
		newTrace(), newHistory(), newHealth(), newClients(), newServerStats(), newNow(), newWait())
	addGroup(root, "try", newQuery(), newLab(), newSimulate())
	root.AddCommand(newVersion())
	root.CompletionOptions.HiddenDefaultCmd = false
	return root
}

// addDefaults adds the commands that cobra brings. They keep the output that the root has
// at this moment.
func addDefaults(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		markUsage(c)
	}
}

// markUsage makes wrong words after the commands that cobra brings a matter of usage: it
// has them print a help text and succeed.
func markUsage(cmd *cobra.Command) {
	switch {
	case cmd.Name() == "help":
		cmd.Args = usageArgs(func(help *cobra.Command, args []string) error {
			if _, rest, err := help.Root().Find(args); err != nil || len(rest) > 0 {
				return fmt.Errorf("there is no command %q", strings.Join(args, " "))
			}
			return nil
		})
	case cmd.Name() == "completion":
		cmd.Args = usageArgs(func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name a shell: bash, zsh, fish or powershell")
			}
			return fmt.Errorf("no completion for the shell %q; there is bash, zsh, fish and powershell", args[0])
		})
		cmd.RunE = func(*cobra.Command, []string) error { return nil } // its Args let nothing through
		for _, shell := range cmd.Commands() {
			shell.Args = usageArgs(cobra.NoArgs)
		}
	}
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
