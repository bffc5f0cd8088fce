// Package system is the system process of RFC 5905 §11: it owns the filters of
// all sources and the combined state of the clock, runs selection and discipline,
// and makes the Snapshot from which everybody else reads.
//
// A sample walks through it in RFC 5905's order: clock filter (§10), selection,
// cluster and combine (§11.2), loop filter (§11.3), clock adjust (§12). Offsets
// inside are floating-point seconds, reference − raw oscillator − origin, where
// origin is an integer of nanoseconds: wall time since 1970 needs 61 bits, and
// the rest needs all of its own.
package system

import (
	"net/netip"
	"sort"
	"time"

	"timeball/internal/discipline"
	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/selection"
)

// Config is what the operator decides, and what was kept from the last run.
type Config struct {
	MinSources                int
	MaxDistance               time.Duration
	Required                  bool // no update unless a source with `require` is selected, also while none is there
	StepThreshold             time.Duration
	StepUpdates               int               // steps only in the first so many updates; < 0: always
	MaxSlew                   ntptime.Frequency // 0: 83333 ppm
	MaxFrequency              ntptime.Frequency // 0: 500 ppm
	Panic                     time.Duration     // 0: no limit
	PanicGateOpen             bool              // the first correction may be of any size
	AccuracyGoal              time.Duration     // 0: by the round trip, see discipline.Goal
	Local                     *Local
	Frequency, FrequencyError ntptime.Frequency // from the drift file; error 0: none known
	Precision                 ntptime.Log2
	Addresses                 []netip.Addr // our own: of several orphans the lowest leads
	Serves                    bool         // see model.Snapshot
	Leap                      LeapConfig
	Named                     Missing // of which none is a source yet; see SetMissing
}

// Local makes the local clock a reference when no source is usable.
type Local struct {
	Stratum  uint8         // 1 to 15
	Activate time.Duration // how long without a source before it serves
	Orphan   bool          // several servers without a source agree on one of them
	Awaits   bool          // the configuration has sources, though none may be there yet
}

// SourceOptions are a source's settings that concern more than its association.
type SourceOptions struct {
	Name                             string
	Prefer, Trust, NoSelect, Require bool
	Fallback                         bool // used only while no other is
	MinPoll, MaxPoll                 ntptime.Log2
	Offset                           time.Duration // added to the measured offset, for a known asymmetry
}

// Output is what an entry point wants done. The caller owns and reuses it.
type Output struct {
	Correction    model.Correction
	HasCorrection bool
	GateUsed      bool // the panic gate closed: remember it beyond a restart
	Hints         []model.Hint
	Events        []model.Event
	Changed       bool // publish a new Snapshot
}

// Reset empties the output and keeps its memory.
func (o *Output) Reset() {
	*o = Output{Hints: o.Hints[:0], Events: o.Events[:0]}
}

const (
	defaultMaxSlew      = 83333 * ntptime.PPM
	defaultMaxFrequency = 500 * ntptime.PPM
	defaultMaxDistance  = 1500 * time.Millisecond
	republish           = 16 * time.Second
	rebaseAt            = 1000.0 // s: offsets stay small enough for 1e-13 s of resolution
	historyDepth        = 8
)

// System is the system process. It is not safe for concurrent use.
type System struct {
	cfg           Config
	origin        int64 // ns
	sources       []*source
	missing       Missing // see SetMissing
	recall        bool    // the drift file's frequency is to be put in force: it is all that is known before a source answers
	combined      filter.Tracker
	combinedSince ntptime.Raw  // Never: there is no combined state
	partial       bool         // sources have gone that the combined state was made of; then
	kept          filter.Start // the frequency known when the last one went
	soleSource    *source      // the only source: its filter works on the combined state itself

	selector     selection.Selector
	candidates   []selection.Candidate
	parts        []filter.Part
	summary      selection.Summary
	firstHeard   ntptime.Raw // first sample of all, to let the others answer
	fallbackFrom ntptime.Raw // when fallback sources may set the clock though others may still answer
	heard        bool

	discipline    discipline.Discipline
	known         float64 // s, error at the last correction
	lastRefusal   string  // why the clock driver refused the last correction
	poll          discipline.Poll
	split         bool          // the sources have parted without a majority, and none is usable yet
	contradiction contradiction // of the state by its source's last samples
	interval      float64       // s, expected until the next update
	leap          leapState
	local         localState
	state         model.DisciplineState
	synced        bool

	rival          rivalState
	disruptions    uint64 // of the clock by others
	lastDisruption ntptime.Instant

	updates    uint64
	lastUpdate ntptime.Instant
	lastUsable ntptime.Raw // last time that a source was usable
	started    ntptime.Raw
	next       ntptime.Raw // next time to republish
	peer       peerState
}

// source is one association, seen from the system process.
type source struct {
	id          model.SourceID
	opt         SourceOptions
	status      model.SourceStatus
	heard       bool // a status has come
	answered    bool // a sample has come since the last status: reachable, whatever that said
	filter      filter.Filter
	estimate    *filter.Tracker // its exchanges alone; nil while it is the only source
	server      model.ServerState
	verdict     selection.Verdict
	distance    float64 // root distance that the verdict rests on, s
	last        ntptime.Instant
	samples     uint64
	delay       float64 // round trip of the last sample, s; for reports
	dispersion  float64 // that of its last sample, s: the precision of its clock and of ours
	spread      spread  // how far its samples contradict each other
	sure        sure    // what its first exchanges leave for its offset
	grid        grid    // how coarsely its clock ticks, whatever it claims
	fall        fall    // of its root dispersion, while it slews
	inCombined  bool
	agreedAt    ntptime.Raw // its last sample that did not contradict the combined state
	window      window      // that its samples leave to the combined state
	bias        bias
	hint        float64 // interval last asked for, s
	startupDone int     // exchanges of a startup burst done
	budget      float64 // extra exchanges left for contradictions
	history     [historyDepth]point
	lastEst     filter.Estimate
	certain     certain
	discarded   uint64      // samples that no time can be made of
	wasFalse    bool        // it has been a falseticker since it was last in the combined state
	trusted     ntptime.Raw // its exchanges from before are not worked into the combined state again
	reference   bool        // a reference clock: its stratum is 0
}

// point is one of the last samples, for reports.
type point struct {
	at     ntptime.Raw
	offset float64 // s, relative to the disciplined clock then
	delay  float64
	err    float64
}

// New makes a system process without sources.
func New(cfg Config, now ntptime.Instant) *System {
	s := &System{started: now.Raw, next: now.Raw, combinedSince: ntptime.Never, missing: cfg.Named, recall: cfg.FrequencyError > 0}
	s.setConfig(cfg)
	s.origin = int64(now.Wall) - int64(now.Raw)
	s.discipline = discipline.New(s.limits())
	s.leap.due = ntptime.Never
	s.localTimer(now)
	return s
}

func (s *System) setConfig(cfg Config) {
	if cfg.MaxSlew <= 0 {
		cfg.MaxSlew = defaultMaxSlew
	}
	if cfg.MaxFrequency <= 0 {
		cfg.MaxFrequency = defaultMaxFrequency
	}
	if cfg.MaxDistance <= 0 {
		cfg.MaxDistance = defaultMaxDistance
	}
	s.cfg = cfg
}

// limits is what the discipline is told of the configuration.
func (s *System) limits() discipline.Config {
	return discipline.Config{
		StepThreshold: s.cfg.StepThreshold, StepUpdates: s.cfg.StepUpdates, MaxSlew: s.cfg.MaxSlew,
		MaxFrequency: s.cfg.MaxFrequency, Panic: s.cfg.Panic, GateOpen: s.cfg.PanicGateOpen,
	}
}

// Reconfigure takes a new configuration and keeps the estimate. The panic gate
// and the drift frequency are of the start and stay.
func (s *System) Reconfigure(cfg Config, now ntptime.Instant) {
	cfg.Frequency, cfg.FrequencyError = s.cfg.Frequency, s.cfg.FrequencyError
	s.setConfig(cfg)
	s.discipline.Reconfigure(s.limits(), now.Raw)
	s.localTimer(now)
	s.next = now.Raw
}

// AddSource makes room for an association's samples; of one that is known it takes over
// the options.
func (s *System) AddSource(now ntptime.Instant, id model.SourceID, o SourceOptions) {
	if known := s.find(id); known != nil {
		known.opt = o
		s.next = now.Raw
		return
	}
	n := &source{id: id, opt: o}
	n.status.Source, n.status.Name = id, o.Name
	n.status.Server.Stratum = 16
	i := sort.Search(len(s.sources), func(i int) bool { return s.sources[i].id >= id })
	s.sources = append(s.sources, nil)
	copy(s.sources[i+1:], s.sources[i:])
	s.sources[i] = n
	s.arrange()
	s.next = now.Raw
}

// arrange decides whether a lone source may use the combined state as its own. One of several
// that are configured may not, because it comes first: it would be believed without the others.
func (s *System) arrange() {
	if s.soleSource != nil && len(s.sources) != 1 {
		own := s.combined
		s.soleSource.estimate = &own
		s.soleSource = nil
	}
	for _, src := range s.sources {
		lone := len(s.sources) == 1 && src.estimate == nil && !src.opt.NoSelect && src.samples == 0 && !s.combined.Started()
		switch {
		case lone && s.missing.all() <= 1: // its own line is counted until SetMissing
			s.soleSource = src
		case lone:
			own := s.combined
			src.estimate = &own
		case src.estimate == nil && src != s.soleSource:
			src.estimate = new(filter.Tracker)
		}
	}
}

// RemoveSource forgets an association; what it taught about the clock stays, also where no
// other is left: it is our oscillator that it was about.
func (s *System) RemoveSource(now ntptime.Instant, id model.SourceID, out *Output) {
	for i, src := range s.sources {
		if src.id != id {
			continue
		}
		if s.soleSource == src {
			s.soleSource = nil
		}
		if src.samples > 0 && s.combined.Started() {
			s.partial, s.kept = true, s.start()
		}
		s.sources = append(s.sources[:i], s.sources[i+1:]...)
		if !src.opt.NoSelect {
			s.missing.Add(src.opt.Fallback) // until SetMissing says whether its line has another
		}
		s.reselect(now, nil, out)
		out.Changed = true
		return
	}
}

// Missing counts lines of `sources:` with a vote that have no association now, as names that
// nobody resolves.
type Missing struct{ Regular, Fallback int }

// Add counts one more.
func (m *Missing) Add(fallback bool) {
	if fallback {
		m.Fallback++
	} else {
		m.Regular++
	}
}

func (m *Missing) all() int { return m.Regular + m.Fallback }

// SetMissing says what has no association now. It counts where a majority is wanted of what
// is configured.
func (s *System) SetMissing(m Missing) { s.missing = m }

func (s *System) find(id model.SourceID) *source {
	i := sort.Search(len(s.sources), func(i int) bool { return s.sources[i].id >= id })
	if i < len(s.sources) && s.sources[i].id == id {
		return s.sources[i]
	}
	return nil
}

// tracker returns the state that the source's own exchanges go into.
func (s *System) tracker(src *source) *filter.Tracker {
	if src == s.soleSource {
		return &s.combined
	}
	return src.estimate
}

// start returns the frequency known before a state has any of its own.
func (s *System) start() filter.Start {
	if s.combined.Started() && s.combined.Updates() > 8 {
		e := s.combined.Estimate()
		return filter.Start{Freq: e.Freq, SD: 1e-7 + 3*sqrt(e.P11)}
	}
	return s.coldStart()
}

// coldStart is the drift file's frequency, or 0 ± 100 ppm.
func (s *System) coldStart() filter.Start {
	if s.cfg.FrequencyError > 0 {
		return filter.Start{Freq: float64(s.cfg.Frequency), SD: float64(s.cfg.FrequencyError)}
	}
	return filter.UnknownFrequency
}

// correction returns disciplined − raw − origin at an instant, in seconds.
func (s *System) correction(now ntptime.Instant) float64 {
	return float64(int64(now.Wall)-int64(now.Raw)-s.origin) * 1e-9
}

func (s *System) event(out *Output, now ntptime.Instant, kind model.EventKind, src model.SourceID, v time.Duration, text string) {
	out.Events = append(out.Events, model.Event{At: now, Kind: kind, Source: src, Value: v, Text: text})
}
