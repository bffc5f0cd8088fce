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
			p.ExchangeKeys = KeyExchange(source, c)
		}
	})
}

// KeyExchange makes the key exchange of a probe, as a line of a configuration with NTS would,
// with the dates of certificates checked against a clock.
func KeyExchange(source *config.Source, c clock.Clock) func(context.Context, *probe.Probe) (*association.Keys, []*x509.Certificate, error) {
	return func(ctx context.Context, p *probe.Probe) (*association.Keys, []*x509.Certificate, error) {
		seeker := &keySeeker{
			source: source, remote: p.Remote, local: p.Local, lookup: resolve.System, roots: rootsOf(source),
			now: func() time.Time { return c.Now().Wall.Time() }, anyDate: func() bool { return false },
		}
		outcome := seeker.seek(ctx)
		return outcome.keys, outcome.chain, outcome.err
	}
}
