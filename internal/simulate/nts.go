package simulate

import (
	"time"

	"timeball/internal/association"
	"timeball/internal/engine"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/siv"
	"timeball/internal/virtual"
)

// The certificate of every simulated server with NTS is valid for 90 days, 30 of which
// have gone by when the simulation begins.
const (
	validBefore = 30 * 24 * time.Hour
	validAfter  = 60 * 24 * time.Hour
)

// ExchangeKeys asks for a key exchange, which happens at the end of the turn.
func (a *member) ExchangeKeys() { a.seeking = true }

// exchangeKeys makes the key exchanges asked for. They take no time and meet no network:
// what is simulated is who believes which date.
func (c *core) exchangeKeys(now ntptime.Instant) {
	for _, a := range c.members {
		if !a.seeking {
			continue
		}
		a.seeking = false
		keys, kind, why := c.keysOf(a, now)
		if keys == nil {
			a.process.OnKeysFailed(kind, why, now)
			continue
		}
		a.process.OnKeys(keys, now)
	}
}

// keysOf is the outcome of one key exchange.
func (c *core) keysOf(a *member, now ntptime.Instant) (keys *association.Keys, kind, why string) {
	index, known := c.m.world.address[a.Config.Remote.Addr()]
	if !known {
		return nil, "network", "no such host"
	}
	other, _ := c.m.world.machines[index].program.(*core)
	if other == nil || other.server == nil || other.server.env.Ring == nil {
		return nil, "network", "connection refused"
	}
	start := c.m.world.scenario.Start
	from, to := start.Add(-validBefore), start.Add(validAfter)
	at := max(now.Wall, c.m.memory.lastTime) // a time known to have passed counts for the clock's
	dated := at >= from && at <= to
	if !dated && !engine.AnyDate(c.set.Config, c.snapshot) {
		return nil, "date", "the certificate is not valid now by this clock"
	}
	keys = &association.Keys{Secrets: nts.Secrets{Algorithm: siv.AESSIVCMAC256}, Undated: !dated, Identity: uint64(index) + 1, Exchanger: a.Config.Remote.Addr(), Expires: to}
	random := &c.random
	for i := range siv.AESSIVCMAC256.KeySize() {
		keys.Secrets.C2S[i], keys.Secrets.S2C[i] = byte(random.Uint64()), byte(random.Uint64())
	}
	for range nts.MaxCookies {
		keys.Cookies = append(keys.Cookies, other.server.env.Ring.AppendCookie(nil, &keys.Secrets, random))
	}
	return keys, "", ""
}

// newRing is the ring of a simulated server.
func newRing(random *virtual.Stream, now ntptime.Wall) *nts.Ring {
	var secret [nts.RingKeySize]byte
	for i := range secret {
		secret[i] = byte(random.Uint64())
	}
	return nts.NewRing(secret, now)
}
