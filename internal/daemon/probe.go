package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/resolve"
	"timeball/internal/system"
)

// answerIn is how long an answer may take.
const answerIn = 3 * time.Second

// Question is a server to be asked without a daemon.
type Question struct {
	Name      string
	Remote    netip.AddrPort
	Local     netip.Addr // invalid: the route's
	Interface string
	Version   uint8 // 1 to 4; 0: 4
	Key       *mac.Key
	Count     int // exchanges, one a second; at least 1
	// NTS asks by it, as a line of this configuration would; nil: without.
	NTS *config.Source
}

// where is whom the question goes to, for errors.
func (q *Question) where() string {
	if q.Name == "" || q.Name == q.Remote.Addr().String() || q.Name == q.Remote.String() {
		return q.Remote.String()
	}
	return fmt.Sprintf("%s (%s)", q.Name, q.Remote)
}

// Answer is what came of a Question.
type Answer struct {
	Question Question
	begun    time.Time
	Samples  []model.Sample
	Status   model.SourceStatus
	Keys     *association.Keys   // of the key exchange; nil: none was made, or it failed
	Chain    []*x509.Certificate // that its server has shown, the end certificate first
}

// Offset is reference − local of a sample, Delay its round trip (RFC 5905 §8).
func Offset(m *model.Sample) time.Duration {
	return m.T2.Sub(m.T1.Wall)/2 + m.T3.Sub(m.T4.Wall)/2
}

// Delay is the round trip of a sample without the server's own time, and no less than
// the precision of our clock (RFC 5905 §8): the noise of stamps makes a short one negative.
func Delay(m *model.Sample, precision ntptime.Log2) time.Duration {
	return max(m.T4.Wall.Sub(m.T1.Wall)-m.T3.Sub(m.T2), precision.Duration())
}

// Ask asks one server, by an association like the daemon's: the same packet tests
// hold. The error says that nothing answered, or that the answer is of no use; the
// Answer then still holds what is known.
func Ask(ctx context.Context, q Question, c clock.Clock) (Answer, error) {
	q.Count = max(q.Count, 1)
	answer := Answer{Question: q, begun: time.Now()}
	if q.NTS != nil {
		outcome := q.seekKeys(ctx, c)
		answer.Chain, answer.Keys = outcome.chain, outcome.keys
		if outcome.err != nil {
			return answer, fmt.Errorf("%s: NTS key exchange: %w", q.where(), outcome.err)
		}
		q.Remote = outcome.keys.Remote
	}
	g := newGroup(ctx)
	inbox := make(chan systemMessage)
	refusals := make(chan string, 1) // full: one is enough
	asker := newAsker(q, answer.Keys, c, g, inbox)
	asker.onRefusal = func(words string) { offer(refusals, words) }
	g.Go("question", asker.run)
	answer.Question = q
	limit := time.NewTimer(time.Duration(q.Count)*time.Second + answerIn)
	defer limit.Stop()
	for answer.collect(ctx, inbox, refusals, limit.C) {
	}
	g.Stop()
	if err := g.Wait(); err != nil {
		return answer, err
	}
	return answer, answer.fault(ctx)
}

// newAsker makes an association that polls once a second.
func newAsker(q Question, keys *association.Keys, c clock.Clock, g *group, inbox chan systemMessage) *runner {
	settings := engine.Probe{Name: q.Name, Remote: q.Remote, Local: q.Local, Version: q.Version, Key: q.Key, Keys: keys}
	r := &runner{
		id: 1, name: q.Name, remote: q.Remote,
		clock:    c,
		snapshot: new(atomic.Pointer[model.Snapshot]),
		steering: newSteering(),
		packets:  make(chan arrival, packetQueue),
		stamps:   make(chan transmitted, packetQueue),
		system:   inbox,
		client: netio.ClientConfig{Remote: q.Remote, Local: q.Local, Interface: q.Interface,
			Clock: netio.Clock{Now: c.Now, At: c.At}},
		group:   g,
		log:     zap.NewNop(),
		onEvent: func(model.Event) {},
		onDone:  func(*runner) { g.Stop() },
	}
	r.process = engine.NewPeerProcess(settings.Association(), r, c.Now(), cryptoRandom{})
	return r
}

// seekKeys makes the key exchange of a question, with the dates of certificates checked
// against this machine's clock.
func (q *Question) seekKeys(ctx context.Context, c clock.Clock) keyOutcome {
	seeker := &keySeeker{
		source: q.NTS, remote: q.Remote, local: q.Local, lookup: resolve.System, roots: rootsOf(q.NTS),
		now: func() time.Time { return c.Now().Wall.Time() }, anyDate: func() bool { return false },
	}
	return seeker.seek(ctx)
}

// collect takes one message; it reports whether more are to be waited for.
func (a *Answer) collect(ctx context.Context, inbox <-chan systemMessage, refusals <-chan string, limit <-chan time.Time) bool {
	select {
	case message := <-inbox:
		switch m := message.(type) {
		case newSample:
			a.Samples = append(a.Samples, m.sample)
			return true // what the server says of itself is in the status, which follows
		case newStatus:
			a.Status = m.status
		}
		return len(a.Samples) < a.Question.Count && !a.Status.Denied && a.Status.SendError == "" && !a.hopeless()
	case words := <-refusals: // one question needs no patience with what might be forged
		a.Status.Network = words
		return len(a.Samples) > 0
	case <-limit:
	case <-ctx.Done():
	}
	return false
}

// spareExchanges are made where an answer came but was of no use: a delay that noise
// has made negative, for one.
const spareExchanges = 2

// hopeless reports that as many polls are over as were asked for. Silence is not asked
// a second time.
func (a *Answer) hopeless() bool {
	allowed := a.Question.Count
	if a.refused() {
		allowed += spareExchanges
	}
	sent := int(a.Status.Sent)
	return sent > allowed || sent == allowed && a.Status.Unanswered > 0
}

// refused reports whether any packet failed a test.
func (a *Answer) refused() bool {
	return a.Status.Rejected != [model.RejectReasons]uint64{}
}

// fault says why an answer is of no use; nil if it has samples.
func (a *Answer) fault(ctx context.Context) error {
	where := a.Question.where()
	switch {
	case len(a.Samples) > 0:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case a.Status.SendError != "":
		return fmt.Errorf("%s: cannot be asked: %s", where, a.Status.SendError)
	case a.refused():
		return fmt.Errorf("%s: %s", where, a.Status.Refused())
	case a.Status.Network != "":
		return fmt.Errorf("%s: no answer: %s", where, a.Status.Network)
	}
	return fmt.Errorf("%s: no answer within %s, and no word from the network; is it an NTP server, and does a firewall let UDP port %d through, both ways?",
		where, time.Since(a.begun).Round(100*time.Millisecond), a.Question.Remote.Port())
}

// ProbeSources asks each unicast source of a configuration once and lets the system
// process select among the answers, without touching any clock.
func ProbeSources(ctx context.Context, cfg *config.Config, lookup func(context.Context, string) ([]netip.Addr, error)) (*model.Snapshot, []error, error) {
	c := clock.NewObserve()
	questions, idle, faults := questionsOf(ctx, cfg, lookup)
	if len(questions) == 0 {
		return nil, faults, errors.New("no source to be asked")
	}
	answers := make([]Answer, len(questions))
	errs := make([]error, len(questions))
	var wait sync.WaitGroup
	for i := range questions {
		wait.Go(func() { answers[i], errs[i] = Ask(ctx, questions[i].Question, c) })
	}
	wait.Wait()
	core := system.New(engine.ProbeSystem(cfg, c.Precision()), c.Now())
	var out system.Output
	for i := range answers {
		deliver(core, c.Now(), questions[i].id, &questions[i], &answers[i], &out)
	}
	for _, err := range errs {
		if err != nil {
			faults = append(faults, err)
		}
	}
	snapshot := core.Snapshot(c.Now())
	snapshot.Sources = append(snapshot.Sources, idle...)
	return snapshot, faults, nil
}

// deliver hands one answer to the system process under an id of its own.
func deliver(core *system.System, at ntptime.Instant, id model.SourceID, q *probe, a *Answer, out *system.Output) {
	options := q.options
	a.Status.Source = id
	if len(a.Samples) == 0 {
		core.AddSource(at, id, options)
		core.OnStatus(at, &a.Status, out)
		return
	}
	at = a.Samples[0].T4
	core.AddSource(at, id, options)
	out.Reset()
	core.OnStatus(at, &a.Status, out)
	for i := range a.Samples {
		a.Samples[i].Source = id
		out.Reset()
		core.OnSample(a.Samples[i].T4, &a.Samples[i], out)
	}
}

// probe is a question with the options of the source that it comes from.
type probe struct {
	Question
	id      model.SourceID
	options system.SourceOptions
}

// questionsOf makes a question for each address that a daemon of this configuration would
// begin with, and gives the rows of the lines that would have none.
func questionsOf(ctx context.Context, cfg *config.Config, lookup func(context.Context, string) ([]netip.Addr, error)) (list []probe, idle []model.SourceReport, faults []error) {
	host := &engine.Host{Addresses: ownAddresses(netip.AddrPort{}), Broadcasts: broadcastAddresses(), Listening: listenSettings(cfg, netip.AddrPort{}).Listen}
	sources, idle, err := engine.ProbeSources(cfg, host, func(name string) ([]netip.Addr, error) {
		addrs, err := lookup(ctx, name)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: name not resolved: %w", name, err))
		}
		return addrs, err
	})
	if err != nil {
		return nil, nil, []error{err}
	}
	for _, a := range sources {
		c := &a.Config
		list = append(list, probe{
			Question: Question{Name: c.Name, Remote: c.Remote, Local: c.Local, Interface: c.Interface, Version: c.Version, Key: c.Key, NTS: ntsOf(a.Source)},
			id:       a.ID(), options: a.Options,
		})
	}
	return list, idle, faults
}

// ntsOf is the line of a source with NTS; nil for one without.
func ntsOf(source *config.Source) *config.Source {
	if source == nil || source.NTS == nil {
		return nil
	}
	return source
}
