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
	// most one in each stretch of kissGap intervals; a forger's requests draw most of them, and they
	// tell its victim nothing, which did not ask.
	Kiss bool
}

// kissGap is the number of intervals for each of which there is at most one kiss to a
// client.
const kissGap = 8

// admission says what becomes of a request by the rate limit.
type admission uint8

const (
	admitted admission = iota
	limited            // no answer
	kissed             // no answer but RATE
)

// budget is the part of a client's record that the limit works on.
type budget struct {
	// due is when a client that keeps to the average would have asked once more than
	// it has (the "theoretical arrival time" of a leaky bucket).
	due ntptime.Raw
	// kissed tells the stretch of kissGap intervals in which the last kiss fell, from 1
	// to 255 and round again; 0: none.
	kissed uint8
}

// admit decides about a request at now. Only admitted requests are charged for, and
// those that leak through are not.
func (b *budget) admit(limit *RateLimit, now ntptime.Raw, chance *random) admission {
	if limit == nil || limit.Interval <= 0 {
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
	if stretch := uint8(now/ntptime.Raw(kissGap*limit.Interval)%255) + 1; limit.Kiss && b.kissed != stretch {
		b.kissed = stretch
		return kissed
	}
	return limited
}
