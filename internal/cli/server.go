package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

func newServerStats() *cobra.Command {
	return report[control.ServerStats]{
		use:     "serverstats",
		short:   "What has been done with the requests of clients",
		request: control.Request{Command: control.CommandServerStats},
		print:   printServerStats,
	}.command()
}

func printServerStats(w io.Writer, s *control.ServerStats) error {
	printNotListening(w, s.NotListening)
	if len(s.Listeners) == 0 && len(s.NotListening) == 0 {
		_, err := fmt.Fprintln(w, "no port is open: there is no server section")
		return err
	}
	var t table
	t.row("ADDRESS", "RECEIVED", "ANSWERED", "DENIED", "IGNORED", "LIMITED", "OTHER", "UNSENT", "DROPPED")
	for _, l := range s.Listeners {
		t.row(l.Address, number(l.Received), number(l.Accepted), number(l.Denied), number(l.Ignored),
			number(l.RateLimited), number(l.Control+l.Passed), number(l.SendErrors), number(l.Dropped))
	}
	if f := s.FastPath; f != nil {
		t.row("in the driver", number(f.Answered+f.RateKoD+f.Limited), number(f.Answered), "", "", number(f.RateKoD+f.Limited))
	}
	printDrops(&t, s)
	t.row("")
	t.row("MODE", "VERSION", "RESULT", "PACKETS")
	for _, p := range s.Packets {
		t.row(p.Mode, strconv.Itoa(p.Version), p.Result, number(p.Count))
	}
	return errors.Join(t.print(w), printCramped(w, s.Listeners))
}

// printCramped says what to do where bursts overflow a buffer that is smaller than asked for.
func printCramped(w io.Writer, listeners []control.Listener) error {
	for i := range listeners {
		if l := &listeners[i]; l.Cramped() {
			_, err := fmt.Fprintf(w, "\n%s overflows in bursts: its receive buffer has %d KiB, because net.core.rmem_max allows no more;\nset that to %d and restart (docs/public-server.md)\n",
				l.Address, l.ReceiveBuffer>>10, l.ReceiveBufferAsked)
			return err
		}
	}
	return nil
}

// printDrops lists what was given up, if anything was.
func printDrops(t *table, s *control.ServerStats) {
	var rows [][]string
	for i := range s.Listeners {
		for _, d := range s.Listeners[i].Drops.Reasons() {
			if d.Count > 0 {
				rows = append(rows, []string{s.Listeners[i].Address, d.Reason, number(d.Count)})
			}
		}
	}
	if f := s.FastPath; f != nil {
		for _, d := range f.Lost.Reasons() {
			if d.Count > 0 {
				rows = append(rows, []string{"behind the driver", d.Reason, number(d.Count)})
			}
		}
	}
	if s.AssociationDrops > 0 {
		rows = append(rows, []string{"associations", "no room", number(s.AssociationDrops)})
	}
	if rows != nil {
		t.row("")
		t.row("DROPPED AT", "REASON", "PACKETS")
		t.rows = append(t.rows, rows...)
	}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// clientOrders are the orders of `timeball clients`; maxClients bounds its rows.
var clientOrders = []string{"rate", "hits", "drops", "recent"}

const maxClients = 10_000

func newClients() *cobra.Command {
	var count int
	var order string
	args := map[string]string{}
	cmd := report[control.Clients]{
		use:     "clients",
		short:   "Who asks us: by rate, hits, drops or last seen",
		request: control.Request{Command: control.CommandClients, Args: args},
		flags: func(cmd *cobra.Command, _ *control.Request) {
			cmd.Flags().IntVarP(&count, "count", "n", 20, "how many clients")
			cmd.Flags().StringVar(&order, "order", "rate", "rate, hits, drops or recent")
		},
		print: printClients,
	}.command()
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(clientOrders, order) {
			return usageError{fmt.Errorf("--order %q is not known; use %s", order, strings.Join(clientOrders, ", "))}
		}
		args["count"], args["order"] = strconv.Itoa(count), order
		return inRange("count", count, 1, maxClients)
	}
	return cmd
}

func printClients(w io.Writer, c *control.Clients) error {
	if c.Unavailable != "" {
		paragraph(w, "clients are not remembered:", c.Unavailable, 2)
		return nil
	}
	fmt.Fprintf(w, "%s within the last hour, %d ever over the rate limit, %d with a key\n", plural(c.Total, "client"), c.Limited, c.Signed)
	if c.Private {
		_, err := fmt.Fprintln(w, "no addresses are shown: server.client_log.privacy is on")
		return err
	}
	var t table
	t.row("CLIENT", "REQUESTS", "REFUSED", "INTERVAL", "LAST", "MODE", "POLL", "V", "KEY", "XLEAVE")
	for _, r := range c.Clients {
		t.row(r.Address, number(r.Hits), number(r.Drops), formatTime(r.Interval), formatAge(r.LastSeen),
			r.Mode, formatInterval(math.Ldexp(1, r.Poll)), strconv.Itoa(r.Version), yesNo(r.Signed), yesNo(r.Interleaved))
	}
	return t.print(w)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
