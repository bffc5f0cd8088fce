package metrics

import (
	"math"
	"math/bits"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"timeball/internal/bound"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// collector makes the metrics anew at every scrape, so that a source's series go when
// the source goes.
type collector struct{ source Source }

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range all {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	out := sink(ch)
	process := c.source.Process()
	out.process(process)
	if s := c.source.Snapshot(); s != nil {
		now := c.source.Now()
		out.system(s, now)
		if process.Machine != nil && s.LastUpdate != (ntptime.Instant{}) {
			out.put(systemMachineOffset, (*process.Machine + s.Offset).Seconds())
		}
		for i := range s.Sources {
			out.source(&s.Sources[i], s.SystemPeer, now)
		}
	}
	if server := c.source.Server(); server != nil {
		out.server(server)
	}
}

// sink takes the metrics of one scrape.
type sink chan<- prometheus.Metric

// put gives one value of a metric.
func (out sink) put(m *metric, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if m.kind == counter {
		kind = prometheus.CounterValue
	}
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?") // the registry refuses a whole scrape for it
	}
	out <- prometheus.MustNewConstMetric(m.desc, kind, value, labels...)
}

func (out sink) process(p Process) {
	out.put(uptime, p.Uptime.Seconds(), p.Version, p.Revision, p.CommitDate)
	out.put(buildInfo, 1, p.Version, p.Revision, runtime.Version())
	out.put(reloadTime, unix(p.LastReload))
	out.put(reloadStatus, truth(!p.ReloadFailed))
	out.put(associationDrops, float64(p.AssociationDrops))
	out.put(logLinesLost, float64(p.LogLinesLost))
}

func (out sink) system(s *model.Snapshot, now ntptime.Instant) {
	grown := bound.Growth(s, now)
	out.put(systemPoll, s.PollInterval.Seconds())
	out.put(systemStepsSum, s.StepsTotal.Seconds())
	out.put(systemStepsLimit, -1) // our limits are on single corrections, not on their sum
	out.put(systemLeap, float64(s.Leap))
	out.put(systemRootDelay, s.RootDelay.Seconds())
	out.put(systemRootDispersion, (s.RootDispersion + grown).Seconds())
	out.put(systemStratum, float64(s.Stratum))
	out.put(systemSynchronized, truth(s.Synchronized))
	for state := range model.DisciplineState(model.DisciplineStates) {
		out.put(systemState, truth(s.State == state), state.String())
	}
	out.put(systemOffset, s.Offset.Seconds())
	out.put(systemFrequency, float64(s.Frequency))
	out.put(systemFrequencyError, float64(s.FrequencyError))
	out.put(systemSlew, float64(s.Slew))
	out.put(systemJitter, s.Jitter.Seconds())
	out.put(systemEstimatedError, s.EstimatedError.Seconds())
	out.put(systemErrorBound, boundOf(s, grown))
	out.put(systemLastUpdate, unix(s.LastUpdate.Wall))
	out.put(systemUpdates, float64(s.Updates))
	out.put(systemSteps, float64(s.Steps))
	out.put(systemDisruptions, float64(s.Disruptions))
	out.put(systemRival, truth(s.Rival))
	out.put(systemPanic, s.PanicOffset.Seconds())
	if s.TAI != 0 {
		out.put(systemTAI, float64(s.TAI))
	}
	if s.LeapPending != 0 {
		out.put(systemLeapPending, unix(s.LeapPending))
	}
	out.put(sourcesConfigured, float64(s.Configured))
	out.put(sourcesInUse, float64(s.InUse))
	out.put(systemReference, 1, peerName(s), reference(s))
}

// peerName is the system peer's name, "" without one.
func peerName(s *model.Snapshot) string {
	i := slices.IndexFunc(s.Sources, func(r model.SourceReport) bool { return r.Source == s.SystemPeer })
	if s.SystemPeer == 0 || i < 0 {
		return ""
	}
	return s.Sources[i].Name
}

// reference is the reference id in letters or as an address, "" while there is none.
func reference(s *model.Snapshot) string {
	if s.ReferenceID == 0 {
		return ""
	}
	return s.ReferenceID.Format(s.Stratum)
}

func (out sink) source(r *model.SourceReport, peer model.SourceID, now ntptime.Instant) {
	put := func(m *metric, value float64, more ...string) {
		out.put(m, value, append([]string{r.Name, address(r), strconv.Itoa(int(r.Source))}, more...)...)
	}
	for state := range model.State(model.States) {
		put(sourceState, truth(r.State == state), state.String())
	}
	if r.Idle {
		return // nothing was ever measured
	}
	put(sourcePoll, r.Interval.Seconds())
	put(sourceUnanswered, float64(bits.TrailingZeros8(r.Reach))) // 8 for an empty register
	put(sourceOffset, r.Offset.Seconds())
	put(sourceDelay, r.Delay.Seconds())
	put(sourceUncertainty, r.Error.Seconds())
	put(sourceRootDelay, r.Server.RootDelay.Seconds())
	put(sourceRootDispersion, r.Server.RootDispersion.Seconds())
	put(sourceSelected, truth(peer != 0 && r.Source == peer))
	put(sourceStratum, float64(r.Server.Stratum))
	put(sourceLeap, float64(r.Server.Leap))
	put(sourceReachability, float64(bits.OnesCount8(r.Reach))/8)
	if r.LastSample != (ntptime.Instant{}) {
		put(sourceSampleAge, max(0, now.Raw.Sub(r.LastSample.Raw)).Seconds())
	}
	if r.NTS {
		put(sourceCookies, float64(r.Security.Cookies))
		put(sourceExchanges, float64(r.Security.Exchanges))
	}
	put(sourceJitter, r.Jitter.Seconds())
	put(sourceWeight, r.Weight)
	put(sourceFrequency, float64(r.Frequency))
	put(sourceSamples, float64(r.Samples))
	put(sourceSent, float64(r.Sent))
	put(sourceAccepted, float64(r.Accepted))
	for reason := model.RejectNone + 1; reason < model.RejectReasons; reason++ {
		put(sourceRejected, float64(r.Rejected[reason]), reason.String())
	}
	for why := range model.ReadingRefusal(model.ReadingRefusals) {
		if r.Reference {
			put(refclockRefused, float64(r.Readings[why]), why.String())
		}
	}
	for code := range model.KissCode(model.KissCodes) {
		put(sourceKisses, float64(r.Kisses[code]), code.String())
	}
}

func (out sink) server(s *Server) {
	var sum responder.Counters
	for _, address := range s.NotListening {
		out.put(serverListening, 0, address)
	}
	for result, n := range s.FastPath {
		out.put(serverFastPath, float64(n), result)
	}
	for reason, n := range s.FastPathLost {
		out.put(serverFastPathLost, float64(n), reason)
	}
	for i := range s.Listeners {
		l := &s.Listeners[i]
		if !slices.Contains(s.NotListening, l.Address) {
			out.put(serverListening, 1, l.Address)
		}
		out.listener(l)
		addCounters(&sum, &l.Counters)
	}
	out.packets(&sum)
	out.put(serverClients, float64(s.Clients.Clients))
	out <- intervals(&s.Clients)
	out.put(broadcastSent, float64(s.Broadcast))
	if s.NTS == nil {
		return
	}
	for result, n := range s.NTS.Connections {
		out.put(ntsConnections, float64(n), result)
	}
	if s.NTS.CertificateExpiry != 0 {
		out.put(ntsCertificate, unix(s.NTS.CertificateExpiry))
	}
	out.put(ntsKeyAge, s.NTS.KeyAge.Seconds())
}

func (out sink) listener(l *Listener) {
	put := func(m *metric, n uint64) { out.put(m, float64(n), l.Address) }
	c := &l.Counters
	put(serverReceived, c.Received())
	put(serverAccepted, c.Sum(responder.Answered)+c.Sum(responder.Interleaved))
	put(serverDenied, c.Sum(responder.Denied)+c.Sum(responder.Refused))
	put(serverIgnored, c.Sum(responder.Ignored))
	put(serverControl, c.Sum(responder.Query))
	put(serverPassed, c.Sum(responder.Forwarded))
	put(serverRateLimited, c.Sum(responder.Limited)+c.Sum(responder.RateKoD))
	put(serverSendErrors, l.SendErrors)
	put(serverNTSReceived, c.NTSReceived())
	put(serverNTSAccepted, c.NTS[responder.Answered]+c.NTS[responder.Interleaved])
	put(serverNTSDenied, c.NTS[responder.Denied]+c.NTS[responder.Ignored])
	put(serverNTSRateLimited, c.NTS[responder.Limited]+c.NTS[responder.RateKoD])
	put(serverNTSNAK, c.NTS[responder.Refused])
	put(serverDropped, l.Overflow+l.Stale)
	for _, d := range []struct {
		reason string
		n      uint64
	}{
		{"overflow", l.Overflow}, {"stale", l.Stale}, {"truncated", l.Truncated},
		{"ignored_interface", l.IgnoredInterface}, {"overlong", l.Overlong}, {"unresolved", l.Unresolved},
	} {
		out.put(serverDiscarded, float64(d.n), l.Address, d.reason)
	}
}

// packets gives the counts over all addresses, of what has occurred at least once.
func (out sink) packets(c *responder.Counters) {
	for what := range responder.Result(responder.Results) {
		for version := range c.Packets[what] {
			for mode, n := range c.Packets[what][version] {
				if n > 0 {
					out.put(serverPackets, float64(n), wire.Mode(mode).String(), strconv.Itoa(version), what.String())
				}
			}
		}
	}
	for why := responder.ReasonNone + 1; why < responder.Reasons; why++ {
		out.put(serverRefused, float64(c.Reasons[why]), why.String())
	}
}

func addCounters(sum, c *responder.Counters) {
	for what := range c.Packets {
		for version := range c.Packets[what] {
			for mode, n := range c.Packets[what][version] {
				sum.Packets[what][version][mode] += n
			}
		}
	}
	for why, n := range c.Reasons {
		sum.Reasons[why] += n
	}
	sum.Signed += c.Signed
}

// intervals is the histogram of the clients' average intervals. The log keeps powers
// of two; the sum takes each client at the upper bound of its bin.
func intervals(t *responder.ClientTotals) prometheus.Metric {
	buckets := make(map[float64]uint64, responder.IntervalBins)
	var count uint64
	var sum float64
	for i, n := range t.Intervals {
		bound := ntptime.Log2(i + responder.FirstInterval).Seconds()
		count += n
		sum += float64(n) * bound
		if i < responder.IntervalBins-1 { // the last holds all longer ones: +Inf
			buckets[bound] = count
		}
	}
	return prometheus.MustNewConstHistogram(serverIntervals.desc, count, sum, buckets)
}

func address(r *model.SourceReport) string {
	if !r.Address.IsValid() {
		return ""
	}
	return r.Address.String()
}

// unix is civil time in seconds since 1970; 0 stays 0.
func unix(w ntptime.Wall) float64 { return float64(w) / float64(time.Second) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// boundOf is the error bound in seconds; +Inf where none is known, so that every alert on
// a limit fires.
func boundOf(s *model.Snapshot, grown time.Duration) float64 {
	if s.ErrorBound >= model.UnknownBound {
		return math.Inf(1)
	}
	return (s.ErrorBound + grown).Seconds()
}
