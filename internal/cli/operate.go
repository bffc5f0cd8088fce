package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"timeball/internal/config"
	"timeball/internal/control"
)

// The commands that change the running daemon. Root may give them, the daemon's user, and
// the group of its control socket.

func newReload() *cobra.Command {
	plan, path := false, ""
	return request[control.ReloadPlan]{
		use:   "reload",
		short: "Make the daemon read its configuration again",
		long: "Make the daemon read its configuration again, and say what was kept, started, stopped\n" +
			"or restarted, and what waits for the next start. If anything is wrong with the file the\n" +
			"running configuration stays in force, whole; every problem is printed, and the exit\n" +
			"status is 1. With --plan only say what would be done.",
		request: control.Request{Command: control.CommandReload},
		flags: func(cmd *cobra.Command, r *control.Request) {
			cmd.Flags().BoolVar(&plan, "plan", false, "only say what a reload would do")
			cmd.Flags().StringVarP(&path, "config", "c", "", "ask at the control socket that this `FILE` names, unless --socket says where")
			cmd.PreRun = func(cmd *cobra.Command, _ []string) {
				if socket := config.SocketOf(path); path != "" && socket != "" && !cmd.Flags().Changed("socket") {
					_ = cmd.Flags().Set("socket", socket)
				}
				if plan {
					r.Args = map[string]string{"plan": "true"}
				}
			}
		},
		print: printReload,
	}.command()
}

func printReload(w io.Writer, p *control.ReloadPlan) error {
	done := "reloaded"
	if !p.Applied {
		done = "a reload would do this"
	}
	if p.Same {
		done += ": nothing has changed"
	}
	fmt.Fprintf(w, "%s: %s\n", p.File, done)
	var t table
	for _, s := range p.Sources {
		t.row("  "+s.Action, s.Source, s.Why)
	}
	if err := t.print(w); err != nil {
		return err
	}
	if len(p.Sections) > 0 {
		fmt.Fprintf(w, "  taken over: %s\n", strings.Join(p.Sections, ", "))
	}
	for _, r := range p.Restart {
		fmt.Fprintf(w, "  restart needed: %s: %s\n", r.Section, r.Why)
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(w, "  warning: %s\n", warning)
	}
	return nil
}

func newOffline() *cobra.Command {
	return onSources("offline", control.CommandOffline, "Stop asking a source, or all, for the time",
		"Stop asking a source, or all, for the time: the network that leads there is gone, or\n"+
			"is not to be used. Its samples stay and age, and its name is not looked up.\n"+
			"`timeball online` ends that; so does a restart of the daemon.")
}

func newOnline() *cobra.Command {
	return onSources("online", control.CommandOnline, "Ask a source, or all, for the time again, at once",
		"Ask a source, or all, for the time again, at once.")
}

func newBurst() *cobra.Command {
	return onSources("burst", control.CommandBurst, "Make a burst of measurements now",
		"Make eight measurements 2 s apart now, of a source or of all. A server that has asked\n"+
			"for a slower pace (RATE) is left alone, and so is a peer, and what is offline.")
}

// onSources makes the command of a request about one source, or about all.
func onSources(use, command, short, long string) *cobra.Command {
	return request[control.Changed]{
		use: use + " [SOURCE]", short: short,
		long:        long + "\nSOURCE is a name, an address or an id of `timeball sources`.",
		request:     control.Request{Command: command},
		takesSource: true,
		print: func(w io.Writer, c *control.Changed) error {
			if len(c.Sources) == 0 {
				_, err := fmt.Fprintf(w, "%s: nothing to change\n", c.Command)
				return err
			}
			_, err := fmt.Fprintf(w, "%s: %s\n", c.Command, strings.Join(c.Sources, ", "))
			return err
		},
	}.command()
}

func newStep() *cobra.Command {
	return request[control.Stepped]{
		use:   "step",
		short: "Set the clock at once by what is left to correct",
		long: "Set the clock at once by what is left to correct, in place of making it run faster or\n" +
			"slower. Refused while no usable source tells the time, and beyond clock.panic.",
		request: control.Request{Command: control.CommandStep},
		print:   printStepped,
	}.command()
}
