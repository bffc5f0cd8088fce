package association

import (
	"math"
	"net/netip"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/wire"
)

// Keys is what a key exchange (RFC 8915 §4) has brought, or an earlier run has kept.
type Keys struct {
	Secrets nts.Secrets
	Cookies [][]byte
	Remote  netip.AddrPort // where the time is to be asked; invalid: at Config.Remote
	// Undated says that the dates of the certificate could not be checked, since the clock
	// was not set: the source does not count alone until another exchange has checked them.
	Undated bool
	// Identity tells the keys of certificates apart; 0: not known.
	Identity  uint64
	Exchanger netip.Addr   // who made the key exchange; invalid: not known
	Expires   ntptime.Wall // of the certificate; 0: not known
}

// security is what a client association with NTS keeps.
type security struct {
	client     nts.Client
	exchanging bool        // the driver makes a key exchange
	next       ntptime.Raw // when one may be made, or when the one under way is given up
	tries      int         // since the last genuine reply
	nak        bool        // the request under way was answered by NTSN, which anybody may forge
}

// Bounds of key exchanges (RFC 8915 §4.2: the wait grows by half with each).
const (
	exchangePatience = 30 * time.Second // the driver answers sooner
	firstBackoff     = 10 * time.Second
	longestBackoff   = 4096 * time.Second
)

// initNTS makes an association speak NTS, with the keys of an earlier run if there are.
func (a *Association) initNTS(now ntptime.Instant) {
	a.security = &security{next: now.Raw}
	a.status.NTS = true
	if a.cfg.Keys != nil {
		a.install(a.cfg.Keys)
		a.cfg.Keys = nil
	}
	a.noteSecurity()
}

// lacksKeys reports whether a key exchange has to come before the next request.
func (a *Association) lacksKeys() bool { return a.security != nil && a.security.client.Cookies() == 0 }

// seekKeys asks the driver for a key exchange when it is time for one.
func (a *Association) seekKeys(now ntptime.Instant, out *Output) {
	s := a.security
	if now.Raw < s.next {
		return
	}
	if s.exchanging {
		a.OnKeysFailed("timeout", "no outcome of the key exchange", now, out)
		return
	}
	s.exchanging, s.next = true, now.Raw.Add(exchangePatience)
	s.tries++
	a.status.Security.Exchanges++
	a.noteSecurity()
	out.ExchangeKeys, out.StatusChanged = true, true
}

// OnKeys takes what a key exchange has brought; the next request is due at once.
func (a *Association) OnKeys(k *Keys, now ntptime.Instant, out *Output) {
	if a.done || a.security == nil {
		return
	}
	a.security.exchanging = false
	if err := a.install(k); err != nil {
		a.OnKeysFailed("protocol", err.Error(), now, out)
		return
	}
	a.event(model.EventKeys, now, a.security.client.Algorithm().String(), out)
	a.poll.bring(now.Raw)
	a.poll.next = min(a.poll.next, now.Raw.Add(burstSpacing))
	out.StatusChanged = true
}

func (a *Association) install(k *Keys) error {
	if err := a.security.client.Install(k.Secrets, k.Cookies); err != nil {
		return err
	}
	if k.Remote.IsValid() {
		a.cfg.Remote, a.status.Address = k.Remote, k.Remote
	}
	st := &a.status.Security
	st.Undated, st.Identity, st.Exchanger, st.Expires = k.Undated, k.Identity, k.Exchanger, k.Expires
	st.FailureKind, st.Failure = "", ""
	a.noteSecurity()
	return nil
}

// OnKeysFailed takes why a key exchange has brought nothing: in one word, and in more.
// The next one waits longer (RFC 8915 §4.2). It counts as a poll without an answer.
func (a *Association) OnKeysFailed(kind, words string, now ntptime.Instant, out *Output) {
	if a.done || a.security == nil {
		return
	}
	s, st := a.security, &a.status.Security
	if st.FailureKind != kind || st.Failure != words {
		a.event(model.EventKeysFailed, now, kind+": "+words, out)
	}
	s.exchanging, s.next = false, now.Raw.Add(backoff(s.tries))
	st.FailureKind, st.Failure = kind, words
	a.poll.unanswered()
	a.status.Unanswered++
	a.shiftReach(false, now, out)
	a.noteSecurity()
	out.StatusChanged = true
}

func backoff(tries int) time.Duration {
	wait := firstBackoff.Seconds() * math.Pow(1.5, float64(min(tries, 60)-1))
	return min(time.Duration(wait*float64(time.Second)), longestBackoff)
}

// RenewKeys forgets keys whose server's certificate was taken without its dates, now that
// the clock is set: another exchange checks them.
func (a *Association) RenewKeys(now ntptime.Instant, out *Output) {
	if a.done || a.security == nil || !a.status.Security.Undated {
		return
	}
	a.dropKeys(now)
	a.status.Security.Undated = false
	a.security.tries = 0
	a.security.next = now.Raw
	a.pending = exchange{}
	out.StatusChanged = true
}

// KeysState returns what a later run may go on with; false if there is nothing.
func (a *Association) KeysState() (k Keys, ok bool) {
	if a.lacksKeys() || a.security == nil || a.status.Security.Undated {
		return k, false
	}
	k.Secrets, k.Cookies = a.security.client.State()
	k.Remote, k.Identity, k.Expires = a.cfg.Remote, a.status.Security.Identity, a.status.Security.Expires
	return k, true
}

// dropKeys forgets keys and cookies; another exchange is made when its wait is over.
func (a *Association) dropKeys(now ntptime.Instant) {
	s := a.security
	s.client.Drop()
	s.nak, s.exchanging = false, false
	s.next = now.Raw
	if s.tries > 0 {
		s.next = now.Raw.Add(backoff(s.tries))
	}
	a.noteSecurity()
}

// missedKeys ends a poll without a good reply: if NTSN came in its place, the keys are
// given up now and not before, since NTSN is not authenticated (RFC 8915 §5.7). Servers
// that never send it are asked until the cookies are gone.
func (a *Association) missedKeys(now ntptime.Instant) {
	if s := a.security; s != nil {
		if s.nak || s.client.Cookies() == 0 {
			a.dropKeys(now)
		}
	}
}

// genuine checks a reply by NTS (RFC 8915 §5.7). NTSN is a hint for later.
func (a *Association) genuine(p *wire.Packet) bool {
	s := a.security
	a.status.Refusals.Kiss = 0
	switch s.client.Check(p) {
	case nts.AnswerGenuine:
		s.nak, s.tries = false, 0
		a.noteSecurity()
		return true
	case nts.AnswerNAK:
		s.nak = true
		a.status.Kisses[model.CountNTSN]++
		a.status.Refusals.Kiss = wire.KissNTSN
	}
	return false
}

// noteSecurity copies the state of NTS into the status.
func (a *Association) noteSecurity() {
	s, st := a.security, &a.status.Security
	st.Cookies, st.Algorithm = s.client.Cookies(), uint16(s.client.Algorithm())
	switch {
	case st.Cookies > 0:
		st.State = model.KeysInUse
	case s.exchanging:
		st.State = model.KeysSought
	case st.FailureKind != "":
		st.State = model.KeysFailed
	default:
		st.State = model.KeysNone
	}
	st.Next = s.next
	a.status.Waiting = ""
	switch st.State {
	case model.KeysSought:
		a.status.Waiting = "an NTS key exchange is under way"
		if st.FailureKind != "" {
			a.status.Waiting += "; the last one failed (" + st.FailureKind + "): " + st.Failure
		}
	case model.KeysFailed:
		a.status.Waiting = "no NTS keys: the key exchange failed (" + st.FailureKind + "): " + st.Failure
	}
}
