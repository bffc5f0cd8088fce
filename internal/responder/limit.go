package responder

import (
	"time"

	"timeball/internal/ntptime"
)

// RateLimit bounds the answers to one client: an IPv4 address, or an IPv6 /56.
type RateLimit struct {
	Interval time.Duration // average wait between answered requests, over 0
	Burst    int           // requests answered at once after a silence, from 1
	// Leak: of the requests over the limit, 1 in 2^Leak is answered all the same, so
	// that somebody who forges a client's address cannot lock it out (threats 34).
	Leak int
	// Kiss: some requests over the limit draw a kiss-o'-death RATE (RFC 5905 §7.4), at
	// most one in kissGap intervals; a forger's requests draw most of them, and they
	// tell its victim nothing, which did not ask.
	Kiss bool
}

// kissGap is the least number of intervals between two kisses to one client.
const kissGap = 8

// admission says what becomes of a request by the rate limit.
type admission uint8

const (
	admitted admission = iota
	limited            // no answer
	kissed             // no answer but RATE
)

// budget is the part of a client's record that the limit works on: the time at which
// a client that keeps to the average would have asked once more than it has (the
// "theoretical arrival time" of a leaky bucket), and the last kiss.
type budget struct {
	due    ntptime.Raw
	kissed ntptime.Raw // 0: never
}

// admit decides about a request at now. Only admitted requests are charged for, and
// those that leak through are not.
func (b *budget) admit(limit *RateLimit, now ntptime.Raw, chance *random) admission {
	if limit == nil {
		return admitted
	}
	ahead := b.due.Sub(now)
	if ahead <= limit.Interval*time.Duration(max(limit.Burst-1, 0)) {
		b.due = max(b.due, now).Add(limit.Interval)
		return admitted
	}
	if chance.next()&(1<<limit.Leak-1) == 0 {
		return admitted
	}
	if limit.Kiss && (b.kissed == 0 || now.Sub(b.kissed) >= kissGap*limit.Interval) {
		b.kissed = now
		return kissed
	}
	return limited
}
