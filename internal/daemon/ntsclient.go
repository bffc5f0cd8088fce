package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/ntptime"
	"timeball/internal/ntske"
	"timeball/internal/resolve"
)

// keySeeker makes the key exchanges of one source with NTS.
type keySeeker struct {
	source *config.Source
	remote netip.AddrPort // the source's own address and port
	local  netip.Addr     // source address; invalid: the route's
	lookup resolve.Lookup
	roots  func() (*x509.CertPool, error) // nil pool: the system's
	now    func() time.Time
	floor  time.Time
	// anyDate says whether the dates of certificates cannot be checked now, since the clock
	// is not set (nts.cold_start).
	anyDate func() bool
	// ours says whether whoever asks there asks this daemon itself; nil: nobody knows.
	ours func(netip.AddrPort) bool
}

// keyOutcome is what a key exchange has come to: keys, or an error.
type keyOutcome struct {
	keys  *association.Keys
	chain []*x509.Certificate
	err   error
}

// failure gives an outcome's error in a word and a sentence.
func (o *keyOutcome) failure() (kind, words string) {
	failure := new(ntske.Failure)
	if errors.As(o.err, &failure) {
		return failure.Kind.String(), failure.Err.Error()
	}
	return "internal", o.err.Error()
}

// seek makes one key exchange. Of several addresses of the key exchange's name each is
// tried until one answers.
func (k *keySeeker) seek(ctx context.Context) keyOutcome {
	addresses, err := k.addresses(ctx)
	if err != nil {
		return keyOutcome{err: &ntske.Failure{Kind: ntske.KindNetwork, Err: err}}
	}
	roots, err := k.roots()
	if err != nil {
		return keyOutcome{err: &ntske.Failure{Kind: ntske.KindChain, Err: err}}
	}
	var outcome keyOutcome
	for _, address := range addresses {
		result, err := ntske.Exchange(ctx, &ntske.Ask{
			Address: address, Name: k.name(), Roots: roots, Local: k.local, Now: k.now(), AnyDate: k.anyDate(), Floor: k.floor,
		})
		if err == nil {
			return k.outcome(ctx, result, address.Addr())
		}
		outcome.err = err
	}
	return outcome
}

// name is whom the certificate must be for.
func (k *keySeeker) name() string {
	switch n := k.source.NTS; {
	case n.Name != "":
		return n.Name
	case n.Server != "":
		return n.Server
	}
	return k.source.Host
}

// mostAddresses bounds how many addresses of one name are tried in an exchange.
const mostAddresses = 4

// addresses are where the key exchange is: at the source's own address, or at another name.
func (k *keySeeker) addresses(ctx context.Context) ([]netip.AddrPort, error) {
	n := k.source.NTS
	if n.Server == "" {
		return []netip.AddrPort{netip.AddrPortFrom(k.remote.Addr(), n.Port)}, nil
	}
	found, err := k.find(ctx, n.Server)
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, addr := range found[:min(len(found), mostAddresses)] {
		list = append(list, netip.AddrPortFrom(addr, n.Port))
	}
	return list, nil
}

// find gives the addresses of a name, or the address that it is.
func (k *keySeeker) find(ctx context.Context, name string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	found, err := k.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no address", name)
	}
	return found, nil
}

// outcome makes an association's keys of a result.
func (k *keySeeker) outcome(ctx context.Context, r *ntske.Result, exchangedWith netip.Addr) keyOutcome {
	keys := &association.Keys{Secrets: r.Secrets, Cookies: r.Cookies, Undated: !r.Dated, Remote: k.remote}
	if r.Server != "" {
		found, err := k.find(ctx, r.Server)
		if err != nil {
			return keyOutcome{chain: r.Chain, err: &ntske.Failure{Kind: ntske.KindNetwork, Err: fmt.Errorf("the server that the key exchange names: %w", err)}}
		}
		addr := found[0]
		for _, other := range found {
			if other.Is4() == exchangedWith.Unmap().Is4() {
				addr = other
				break
			}
		}
		if addr.IsUnspecified() || addr.IsMulticast() {
			return keyOutcome{chain: r.Chain, err: &ntske.Failure{Kind: ntske.KindProtocol, Err: fmt.Errorf("the key exchange names %s, which is nobody", addr)}}
		}
		keys.Remote = netip.AddrPortFrom(addr, config.NTPPort)
	}
	if r.Port != 0 {
		keys.Remote = netip.AddrPortFrom(keys.Remote.Addr(), r.Port)
	}
	if k.ours != nil && k.ours(keys.Remote) {
		return keyOutcome{chain: r.Chain, err: &ntske.Failure{Kind: ntske.KindProtocol,
			Err: fmt.Errorf("the key exchange names %s, this host's own address: nobody sets a clock by itself", keys.Remote)}}
	}
	if len(r.Chain) > 0 {
		sum := sha256.Sum256(r.Chain[0].RawSubjectPublicKeyInfo) // a key in wrong hands has also its older certificates
		keys.Identity, keys.Expires = binary.BigEndian.Uint64(sum[:]), ntptime.WallOf(r.Chain[0].NotAfter)
	}
	keys.Exchanger = exchangedWith.Unmap()
	return keyOutcome{keys: keys, chain: r.Chain}
}

// rootsOf reads the authorities that a source trusts, anew each time.
func rootsOf(source *config.Source) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) {
		if source.NTS.CA == "" {
			return nil, ntske.SystemRoots()
		}
		return ntske.ReadRoots(source.NTS.CA)
	}
}

// newKeySeeker is that of a daemon's source; nil for one without NTS.
func (d *parts) newKeySeeker(source *config.Source, cfg *association.Config) *keySeeker {
	if source == nil || source.NTS == nil {
		return nil
	}
	return &keySeeker{
		source: source, remote: cfg.Remote, local: cfg.Local, lookup: d.opts.Lookup, roots: rootsOf(source),
		now: func() time.Time { return d.clock.Now().Wall.Time() }, floor: d.state.floor.Time(),
		anyDate: func() bool { return engine.AnyDate(d.config.Load(), d.snapshot.Load()) },
		ours: func(remote netip.AddrPort) bool {
			host := engine.Host{Addresses: ownAddresses(d.opts.Port), Listening: listenSettings(d.config.Load(), d.opts.Port).Listen}
			return host.IsOurs(remote)
		},
	}
}

// ExchangeKeys makes a key exchange in the background.
func (r *runner) ExchangeKeys() {
	if r.seeker == nil {
		return
	}
	ctx := r.ctx
	r.group.Go("key exchange of "+r.name, func(context.Context) error {
		outcome := r.seeker.seek(ctx)
		select {
		case r.keys <- outcome:
		case <-ctx.Done():
		}
		return nil
	})
}

// onKeys takes the outcome of a key exchange.
func (r *runner) onKeys(outcome keyOutcome) {
	now := r.clock.Now()
	if outcome.err != nil {
		kind, words := outcome.failure()
		r.process.OnKeysFailed(kind, words, now)
		return
	}
	if outcome.keys.Undated {
		r.log.Warn("NTS: the dates of the certificate are not checked, since the clock is not set yet; only a majority of such sources may set it",
			zap.String("source", nameWithAddress(r.name, r.remote)))
	}
	r.process.OnKeys(outcome.keys, now)
	r.client.Remote = r.process.Status().Address
}

// keepKeys leaves keys and cookies for the next run. It runs when run ends.
func (r *runner) keepKeys() {
	if r.kept == nil {
		return
	}
	if keys, ok := r.process.Keys(); ok {
		if err := r.kept.keep(r.name, r.remote, &keys); err != nil {
			r.log.Warn("NTS keys not kept; the next start makes a key exchange", zap.Error(err))
		}
	}
}
