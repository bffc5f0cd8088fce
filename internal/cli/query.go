package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/daemon"
	"timeball/internal/model"
	"timeball/internal/probe"
	"timeball/internal/resolve"
	"timeball/internal/wire"
)

// queryOptions are the flags of `timeball query`.
type queryOptions struct {
	count   int
	version uint8
	source  string
	nts     bool
	ntsPort uint16
	ca      string
	asJSON  bool
}

func newQuery() *cobra.Command {
	var o queryOptions
	cmd := &cobra.Command{
		Use:   "query HOST[:PORT]...",
		Short: "Ask servers once: offset, delay, stratum, reference id, leap",
		Long: "Ask servers once, without a daemon and without privilege. The clock is not touched.\n" +
			"Offsets are reference - local: a positive one means that our clock is behind.",
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return query(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args, &o)
		},
	}
	cmd.Flags().IntVarP(&o.count, "count", "n", 1, "exchanges with each server, one a second")
	cmd.Flags().Uint8Var(&o.version, "version", 4, "NTP version to ask with, 1 to 4")
	cmd.Flags().StringVar(&o.source, "source", "", "local `ADDRESS` to ask from")
	cmd.Flags().BoolVar(&o.nts, "nts", false, "ask with NTS: a key exchange first, with each host")
	cmd.Flags().Uint16Var(&o.ntsPort, "nts-port", config.NTSPort, "TCP port of the key exchange")
	cmd.Flags().StringVar(&o.ca, "nts-ca", "", "`FILE` of certificates to trust, in PEM form; else those of the system")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

// queried is one server's answer, as printed.
type queried struct {
	Name           string    `json:"name"`
	Address        string    `json:"address"`
	Offset         float64   `json:"offset"`
	Delay          float64   `json:"delay"`
	Dispersion     float64   `json:"dispersion"` // of our measurement
	Stratum        int       `json:"stratum"`
	ReferenceID    string    `json:"reference_id"`
	Leap           string    `json:"leap"`
	RootDelay      float64   `json:"root_delay"`
	RootDispersion float64   `json:"root_dispersion"`
	Version        int       `json:"version"`
	Offsets        []float64 `json:"offsets"`       // of each exchange
	NTS            *askedNTS `json:"nts,omitempty"` // of the key exchange, where one was made
	Error          string    `json:"error,omitempty"`
}

// askedNTS is what a key exchange of NTS has shown.
type askedNTS struct {
	AEAD    string        `json:"aead,omitempty"` // absent where the exchange failed
	Cookies int           `json:"cookies"`
	Server  string        `json:"server,omitempty"` // where the time was asked
	Chain   []certificate `json:"chain"`            // the end certificate first
}

// certificate is one of a chain.
type certificate struct {
	Subject string `json:"subject"`
	Names   string `json:"names,omitempty"` // that it is for
	Issuer  string `json:"issuer"`
	From    string `json:"from"`    // RFC 3339
	Expires string `json:"expires"` // RFC 3339
}

// takeNTS takes over what a key exchange has shown.
func (row *queried) takeNTS(a *probe.Reply) {
	if a.Probe.ExchangeKeys == nil || a.Keys == nil && len(a.Chain) == 0 {
		return
	}
	row.NTS = &askedNTS{Chain: []certificate{}}
	if a.Keys != nil {
		row.NTS.AEAD, row.NTS.Cookies, row.NTS.Server = a.Keys.Secrets.Algorithm.String(), len(a.Keys.Cookies), a.Keys.Remote.String()
	}
	for _, c := range a.Chain {
		names := namesOf(c.DNSNames, c.IPAddresses)
		row.NTS.Chain = append(row.NTS.Chain, certificate{
			Subject: c.Subject.String(), Names: strings.Join(names, " "), Issuer: c.Issuer.String(),
			From: c.NotBefore.UTC().Format(time.RFC3339), Expires: c.NotAfter.UTC().Format(time.RFC3339),
		})
	}
}

// printNTS says what a key exchange has shown.
func printNTS(w io.Writer, r *queried) {
	if r.NTS == nil {
		return
	}
	fmt.Fprintf(w, "\n%s: ", nameAt(r.Name, r.Address))
	if r.NTS.AEAD == "" {
		fmt.Fprintln(w, "no keys; the server's certificates:")
	} else {
		fmt.Fprintf(w, "%s, %d cookies, time from %s\n", r.NTS.AEAD, r.NTS.Cookies, r.NTS.Server)
	}
	for i, c := range r.NTS.Chain {
		fmt.Fprintf(w, "  %d %s", i, c.Subject)
		if c.Names != "" {
			fmt.Fprintf(w, " for %s", c.Names)
		}
		fmt.Fprintf(w, ", by %s, %s to %s\n", c.Issuer, c.From, c.Expires)
	}
}

// query asks all servers at once and prints a row for each; it fails if none answered.
func query(ctx context.Context, stdout, stderr io.Writer, hosts []string, o *queryOptions) error {
	probes, err := o.probes(hosts)
	if err != nil {
		return usageError{err}
	}
	rows := make([]queried, len(hosts))
	observed := clock.NewObserve()
	var wait sync.WaitGroup
	for i := range probes {
		rows[i].Name = hosts[i]
		wait.Go(func() { rows[i].ask(ctx, observed, &probes[i]) })
	}
	wait.Wait()
	answered := false
	for i := range rows {
		answered = answered || rows[i].Error == ""
	}
	if o.asJSON {
		if err := printJSON(stdout, map[string]any{"servers": rows}); err != nil {
			return err
		}
	} else if err := printQueried(stdout, stderr, rows); err != nil {
		return err
	}
	if !answered {
		return errQuiet
	}
	return nil
}

// probes are what the command line asks, with the port but not yet the address in
// Remote; the error is a matter of usage.
func (o *queryOptions) probes(hosts []string) ([]probe.Probe, error) {
	switch {
	case o.count < 1 || o.count > 1000:
		return nil, fmt.Errorf("--count %d: want 1 to 1000", o.count)
	case o.version < 1 || o.version > 4:
		return nil, fmt.Errorf("--version %d: want 1 to 4", o.version)
	case o.nts && o.version != 4:
		return nil, fmt.Errorf("--version %d: NTS is of version 4 (RFC 8915)", o.version)
	case o.ntsPort == 0:
		return nil, fmt.Errorf("--nts-port 0: want 1 to 65535")
	}
	var local netip.Addr
	if o.source != "" {
		var err error
		if local, err = netip.ParseAddr(o.source); err != nil {
			return nil, fmt.Errorf("--source %q is no IP address", o.source)
		}
	}
	list := make([]probe.Probe, len(hosts))
	for i, host := range hosts {
		name, port, err := splitHost(host)
		if err != nil {
			return nil, err
		}
		list[i] = probe.Probe{Name: name, Remote: netip.AddrPortFrom(netip.Addr{}, port), Local: local.Unmap(), Version: o.version, Count: o.count}
		if line := o.lineOf(name, port); line != nil {
			list[i].ExchangeKeys = daemon.QueryKeyExchange(line, clock.NewObserve())
		}
	}
	return list, nil
}

// lineOf is the line of a configuration that would ask a host by NTS; nil without --nts.
func (o *queryOptions) lineOf(name string, port uint16) *config.Source {
	if !o.nts {
		return nil
	}
	return &config.Source{Kind: config.ServerSource, Host: name, Port: port, NTS: &config.NTSClient{Port: o.ntsPort, CA: o.ca}}
}

// ask resolves the name and asks its first address.
func (row *queried) ask(ctx context.Context, c clock.Clock, q *probe.Probe) {
	addrs, err := addresses(ctx, q.Name)
	if err == nil {
		q.Remote = netip.AddrPortFrom(addrs[0].Unmap(), q.Remote.Port())
		row.Address = q.Remote.String()
		err = row.fill(ctx, c, *q)
	}
	if err != nil {
		row.Error = err.Error()
	}
}

// addresses are those of a name, or the literal itself.
func addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{addr}, nil
	}
	addrs, err := lookUp(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s: the name has no address", name)
	}
	return addrs, nil
}

// lookUp finds the addresses of a name; its error says in a few words what went wrong.
func lookUp(ctx context.Context, name string) ([]netip.Addr, error) {
	addrs, err := resolve.System(ctx, name)
	if err != nil {
		return nil, resolve.Describe(name, err)
	}
	return addrs, nil
}

// splitHost splits HOST[:PORT]; an IPv6 address with a port needs brackets.
func splitHost(host string) (name string, port uint16, err error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String(), config.NTPPort, nil
	}
	name, text, err := net.SplitHostPort(host)
	if err != nil {
		if name = host; len(name) > 2 && name[0] == '[' && name[len(name)-1] == ']' {
			name = name[1 : len(name)-1]
		}
		if _, err := netip.ParseAddr(name); err != nil && (name == "" || strings.ContainsAny(name, " /:[]")) {
			return "", 0, fmt.Errorf("%q is no host; write HOST or HOST:PORT, an IPv6 address with a port as [ADDRESS]:PORT", host)
		}
		return named(name, config.NTPPort)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 || name == "" {
		return "", 0, fmt.Errorf("%s: %q is no port; write HOST:PORT with a number from 1 to 65535", host, text)
	}
	return named(name, uint16(number))
}

// named refuses what cannot be the name or address of a host.
func named(name string, port uint16) (string, uint16, error) {
	if _, err := netip.ParseAddr(name); err == nil {
		return name, port, nil
	}
	if err := config.CheckHost(name); err != nil {
		return "", 0, fmt.Errorf("%q %w", name, err)
	}
	return name, port, nil
}

// fill asks and takes over the exchange with the shortest delay, as the clock filter
// of RFC 5905 §10 would.
func (row *queried) fill(ctx context.Context, c clock.Clock, q probe.Probe) error {
	answer, err := probe.Ask(ctx, q, c)
	row.takeNTS(&answer)
	if err != nil {
		return err
	}
	best := &answer.Samples[0]
	for i := range answer.Samples {
		m := &answer.Samples[i]
		row.Offsets = append(row.Offsets, probe.Offset(m).Seconds())
		if probe.Delay(m, c.Precision()) < probe.Delay(best, c.Precision()) {
			best = m
		}
	}
	row.take(best, c)
	row.Version = int(answer.Status.Version)
	return nil
}

func (row *queried) take(m *model.Sample, c clock.Clock) {
	const phi = 15e-6 // frequency tolerance (RFC 5905 §7.2)
	row.Offset, row.Delay = probe.Offset(m).Seconds(), probe.Delay(m, c.Precision()).Seconds()
	row.Dispersion = m.Server.Precision.Seconds() + c.Precision().Seconds() + phi*math.Abs(m.T4.Raw.Sub(m.T1.Raw).Seconds())
	row.Stratum, row.Leap = int(m.Server.Stratum), m.Server.Leap.String()
	row.ReferenceID = m.Server.ReferenceID.Format(m.Server.Stratum)
	row.RootDelay, row.RootDispersion = m.Server.RootDelay.Seconds(), m.Server.RootDispersion.Seconds()
}

// distance is the root distance as a client judges it (RFC 5905 Appendix A.5.5.2): the
// server's own, with the delay and dispersion of this exchange.
func (row *queried) distance() float64 {
	return (row.RootDelay+row.Delay)/2 + row.RootDispersion + row.Dispersion
}

// unsynchronized reports whether the server says that it has no time to give.
func (row *queried) unsynchronized() bool {
	return row.Stratum == 0 || row.Stratum >= wire.MaxStratum || row.Leap == wire.LeapUnknown.String()
}

// printQueried prints the answers as a table and the failures below, a line each.
func printQueried(stdout, stderr io.Writer, rows []queried) error {
	var t table
	t.row("SERVER", "OFFSET", "DELAY", "STRATUM", "REFERENCE", "LEAP", "ROOT DISTANCE")
	for i := range rows {
		r := &rows[i]
		if r.Error != "" {
			continue
		}
		t.row(nameAt(r.Name, r.Address), formatOffset(r.Offset), formatTime(r.Delay), strconv.Itoa(r.Stratum),
			r.ReferenceID, r.Leap, formatTime(r.distance()))
	}
	if len(t.rows) > 1 {
		if err := t.print(stdout); err != nil {
			return err
		}
	}
	for i := range rows {
		printNTS(stdout, &rows[i])
		if rows[i].Error != "" {
			fmt.Fprintln(stderr, "timeball:", rows[i].Error)
		} else if rows[i].unsynchronized() {
			fmt.Fprintf(stderr, "timeball: %s: says itself that it is not synchronized (leap %s, stratum %d): its time is not to be used\n",
				nameAt(rows[i].Name, rows[i].Address), rows[i].Leap, rows[i].Stratum)
		}
	}
	return nil
}
