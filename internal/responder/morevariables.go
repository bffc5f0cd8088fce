package responder

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// The variables that queries get by name only: what ntpq's sysinfo, kerninfo, sysstats,
// iostats, monstats, authinfo, timerstats and pstats ask. ntpq ends with an error where
// one of a table's is missing, so that all are known; those that mean nothing here are 0
// (there is no kernel PLL, no pool of receive buffers), and those that have no value at
// present are left out of the reply.
const noValue = ""

// moreSystemVariables are those of the system.
func (q *query) moreSystemVariables() []variable {
	if q.counts == nil {
		q.counts = &Counts{}
		if q.view.Counts != nil {
			*q.counts = q.view.Counts()
		}
	}
	v := q.peerOfSystem()
	v = append(v, q.kernelVariables()...)
	v = append(v, q.packetVariables()...)
	v = append(v, q.socketVariables()...)
	v = append(v, q.listVariables()...)
	return append(v, q.keyVariables()...)
}

// peerOfSystem is the rest of ntpq's sysinfo.
func (q *query) peerOfSystem() []variable {
	s := q.view.Snapshot
	address, mode := noValue, noValue
	for i := range s.Sources {
		if r := &s.Sources[i]; s.SystemPeer != 0 && r.Source == s.SystemPeer {
			address, mode = addressPort(r.Address), fmt.Sprint(hostMode(r))
		}
	}
	return []variable{
		{"peeradr", address},
		{"peermode", mode},
		{"rootdist", millis(s.RootDelay/2+q.rootDispersion(), 3)},
		{"authdelay", millis(0, 3)},
	}
}

// addressPort is an address as ntpq reads it, 0.0.0.0:0 for a reference clock.
func addressPort(at netip.AddrPort) string {
	if !at.IsValid() {
		return "0.0.0.0:0"
	}
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()).String()
}

// kernelVariables are ntpq's kerninfo: what the kernel is told of its clock.
func (q *query) kernelVariables() []variable {
	const (
		unsynchronized = 0x40 // STA_UNSYNC of adjtimex(2)
		nanoseconds    = 0x2000
		freqTolerance  = 500 // ppm
	)
	s := q.view.Snapshot
	status := nanoseconds
	if !s.Synchronized {
		status |= unsynchronized
	}
	v := []variable{
		{"koffset", millis(s.Offset, 6)},
		{"kfreq", fmt.Sprintf("%.6f", s.Frequency.PPM())},
		{"kmaxerr", millis(q.errorBound(), 6)},
		{"kesterr", millis(s.EstimatedError, 6)},
		{"kstflags", fmt.Sprintf("%#x", status)},
		{"ktimeconst", q.timeConstant()},
		{"kprecis", millis(s.Precision.Duration(), 6)},
		{"kfreqtol", strconv.Itoa(freqTolerance)},
	}
	return append(v, zeros("kppsfreq", "kppsstab", "kppsjitter", "kppscalibdur", "kppscalibs", "kppsjitexc", "kppsstbexc", "kppscaliberrs")...)
}

// errorBound is that of the snapshot, grown up to now.
func (q *query) errorBound() time.Duration {
	s := q.view.Snapshot
	return s.ErrorBound + s.DispersionRate.Over(max(q.view.Now.Raw.Sub(s.At.Raw), 0))
}

// packetVariables are ntpq's sysstats. There is no reset, so that each number since the
// last one (_r) is that since the start.
func (q *query) packetVariables() []variable {
	c := q.counts
	uptime := wholeSeconds(c.Uptime)
	v := []variable{{"ss_uptime", uptime}, {"ss_reset", uptime}, {"ss_reset_r", uptime}}
	version := func(low, high int, mode wire.Mode) uint64 {
		var sum uint64
		for what := range c.Packets {
			for v := low; v <= high; v++ {
				for m, n := range c.Packets[what][v] {
					if mode == anyMode || wire.Mode(m) == mode {
						sum += n
					}
				}
			}
		}
		return sum
	}
	limited := c.Sum(Limited) + c.Sum(RateKoD)
	refused := c.Reasons[ReasonAccess]
	badAuth := c.Reasons[ReasonUnknownKey] + c.Reasons[ReasonBadMAC] + c.Reasons[ReasonUnsigned] + c.Reasons[ReasonNAK]
	badFormat := c.Reasons[ReasonMalformed] + c.Reasons[ReasonVersion]
	for _, count := range []struct {
		name string
		n    uint64
	}{
		{"ss_numctlreq", c.Sum(Query)},
		{"ss_received", c.Received()},
		{"ss_thisver", version(4, 4, anyMode)},
		{"ss_oldver", version(1, 3, anyMode)},
		{"ss_ver1", version(1, 1, anyMode)},
		{"ss_ver1client", version(1, 1, wire.ModeClient)},
		{"ss_ver1zero", version(1, 1, wire.ModeReserved)},
		{"ss_ver1symm", version(1, 1, wire.ModeActive)},
		{"ss_badformat", badFormat},
		{"ss_badauth", badAuth},
		{"ss_declined", c.Sum(Ignored) + c.Sum(Denied) - min(badFormat+badAuth+refused, c.Sum(Ignored)+c.Sum(Denied))},
		{"ss_restricted", refused},
		{"ss_limited", limited},
		{"ss_kodsent", c.Sum(RateKoD)},
		{"ss_processed", c.Sum(Answered) + c.Sum(Interleaved)},
	} {
		n := strconv.FormatUint(count.n, 10)
		v = append(v, variable{count.name, n}, variable{count.name + "_r", n})
	}
	return v
}

// anyMode is no mode, and stands for all.
const anyMode wire.Mode = 0xff

// socketVariables are ntpq's iostats and timerstats.
func (q *query) socketVariables() []variable {
	c := q.counts
	uptime := wholeSeconds(c.Uptime)
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	var sent uint64
	for i := range q.view.Snapshot.Sources {
		sent += q.view.Snapshot.Sources[i].Sent
	}
	v := []variable{
		{"iostats_reset", uptime}, {"timerstats_reset", uptime},
		{"io_dropped", number(c.Lost)}, {"io_ignored", number(c.Shut)}, {"io_received", number(c.Received())},
		{"io_sent", number(c.Sent)}, {"io_sendfailed", number(c.SendErrors)}, {"timer_xmts", number(sent)},
	}
	return append(v, zeros("total_rbuf", "free_rbuf", "used_rbuf", "rbuf_lowater", "io_wakeups", "io_goodwakeups", "timer_overruns")...)
}

// listVariables are ntpq's monstats: the table of clients.
func (q *query) listVariables() []variable {
	clients := q.view.Clients
	if clients == nil {
		return append([]variable{{"mru_enabled", "0"}, {"mru_oldest_age", "0"}}, zeros(listNames...)...)
	}
	held, oldest := clients.held(q.view.Now.Raw)
	const recordSize, kilobyte = 40, 1024
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	size := uint64(len(clients.records))
	v := []variable{
		{"mru_enabled", "1"}, {"mru_oldest_age", wholeSeconds(oldest)},
		{"mru_hashslots", number(held)}, {"mru_depth", number(held)}, {"mru_deepest", number(held)}, {"mru_maxdepth", number(size)},
		{"mru_mem", number(size * recordSize / kilobyte)}, {"mru_maxmem", number(size * recordSize / kilobyte)},
	}
	for _, name := range listNames {
		if !known(v, name) {
			v = append(v, variable{name, "0"})
		}
	}
	return v
}

var listNames = []string{"mru_hashslots", "mru_depth", "mru_deepest", "mru_maxdepth", "mru_mindepth", "mru_maxage", "mru_minage",
	"mru_mem", "mru_maxmem", "mru_exists", "mru_new", "mru_recycleold", "mru_recyclefull", "mru_none"}

func known(list []variable, name string) bool {
	for _, v := range list {
		if v.name == name {
			return true
		}
	}
	return false
}

// held counts the clients remembered, and tells how long the one silent longest is.
func (c *Clients) held(now ntptime.Raw) (count uint64, oldest time.Duration) {
	c.each(func(r *record) {
		count++
		oldest = max(oldest, now.Sub(r.last))
	})
	return count, oldest
}

// keyVariables are ntpq's authinfo and ntsinfo.
func (q *query) keyVariables() []variable {
	c := q.counts
	failed := c.Reasons[ReasonBadMAC]
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	v := []variable{
		{"authreset", wholeSeconds(c.Uptime)}, {"authkeys", strconv.Itoa(c.Keys)},
		{"authklookups", number(c.Signed + failed + c.Reasons[ReasonUnknownKey])}, {"authknotfound", number(c.Reasons[ReasonUnknownKey])},
		{"authencrypts", number(c.Signed)}, {"authdecrypts", number(c.Signed + failed)},
	}
	return append(v, zeros("authfreek", "authdigestencrypts", "authcmacencrypts", "authdigestdecrypts", "authdigestfails",
		"authcmacdecrypts", "authcmacfails", "authkuncached", "authkexpired",
		"nts_client_send", "nts_client_recv_good", "nts_client_recv_bad", "nts_server_recv_good", "nts_server_recv_bad", "nts_server_send",
		"nts_cookie_make", "nts_cookie_decode", "nts_cookie_decode_old", "nts_cookie_decode_old2", "nts_cookie_decode_older",
		"nts_cookie_decode_too_old", "nts_cookie_decode_error", "nts_ke_probes_good", "nts_ke_probes_bad", "nts_ke_serves_good", "nts_ke_serves_bad")...)
}

// moreSourceVariables are those of an association: the rest of ntpq's pstats.
func (q *query) moreSourceVariables(r *model.SourceReport) []variable {
	received := r.Accepted
	for _, n := range r.Rejected {
		received += n
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	since := noValue
	if r.LastPacket != (ntptime.Instant{}) {
		since = wholeSeconds(q.view.Now.Raw.Sub(r.LastPacket.Raw))
	}
	candidate := 0
	if r.State == model.StateSelected || r.State == model.StateCombined || r.State == model.StateSurvivor {
		candidate = int(selections[r.State])
	}
	return []variable{
		{"timerec", since}, {"timer", noValue}, {"timereach", noValue}, {"ntscookies", noValue},
		{"sent", number(r.Sent)}, {"received", number(received)},
		{"badauth", number(r.Rejected[model.RejectAuth])}, {"bogusorg", number(r.Rejected[model.RejectBogus])},
		{"oldpkt", number(r.Rejected[model.RejectDuplicate])}, {"seldisp", number(r.Rejected[model.RejectDelay])},
		{"selbroken", number(r.Rejected[model.RejectHeader])}, {"candidate", strconv.Itoa(candidate)},
	}
}

func zeros(names ...string) []variable {
	list := make([]variable, len(names))
	for i, name := range names {
		list[i] = variable{name, "0"}
	}
	return list
}

func wholeSeconds(d time.Duration) string { return strconv.FormatInt(int64(max(d, 0)/time.Second), 10) }
