package daemon

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"timeball/internal/association"
	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/probe"
	"timeball/internal/resolve"
)

// ProbeSources asks each unicast source of a configuration once, as a daemon on this
// machine would.
func ProbeSources(ctx context.Context, cfg *config.Config, lookup func(context.Context, string) ([]netip.Addr, error)) (*model.Snapshot, []error, error) {
	c := clock.NewObserve()
	host := &engine.Host{Addresses: ownAddresses(netip.AddrPort{}), Broadcasts: broadcastAddresses(), Listening: listenSettings(cfg, netip.AddrPort{}).Listen}
	return probe.Sources(ctx, cfg, host, lookup, func(p *probe.Probe, source *config.Source) {
		if source != nil && source.NTS != nil {
			p.ExchangeKeys = keyExchange(source, c, func(*probe.Probe) func(netip.AddrPort) bool { return host.IsOurs })
		}
	})
}

// QueryKeyExchange makes the key exchange of a probe that sets no clock: it may go to this
// host, but whoever else is asked must not send it here.
func QueryKeyExchange(source *config.Source, c clock.Clock) func(context.Context, *probe.Probe) (*association.Keys, []*x509.Certificate, error) {
	return keyExchange(source, c, func(p *probe.Probe) func(netip.AddrPort) bool {
		host := engine.Host{Addresses: ownAddresses(netip.AddrPort{}), Listening: []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, config.NTPPort)}}
		if host.IsOurs(netip.AddrPortFrom(p.Remote.Addr(), config.NTPPort)) {
			return nil
		}
		return host.IsOurs
	})
}

// keyExchange makes the key exchange of a probe, as a line of a configuration with NTS would,
// with the dates of certificates checked against a clock. It must not lead to what is ours.
func keyExchange(source *config.Source, c clock.Clock, ours func(*probe.Probe) func(netip.AddrPort) bool) func(context.Context, *probe.Probe) (*association.Keys, []*x509.Certificate, error) {
	return func(ctx context.Context, p *probe.Probe) (*association.Keys, []*x509.Certificate, error) {
		seeker := &keySeeker{
			source: source, remote: p.Remote, local: p.Local, lookup: resolve.System, roots: rootsOf(source),
			now: func() time.Time { return c.Now().Wall.Time() }, anyDate: func() bool { return false }, ours: ours(p),
		}
		outcome := seeker.seek(ctx)
		return outcome.keys, outcome.chain, outcome.err
	}
}
