package scenario

import (
	"time"

	"gopkg.in/yaml.v3"

	"timeball/internal/config"
)

// MaxDelay bounds delays and jitters: beyond it no protocol would wait.
const MaxDelay = time.Hour

func (r *reader) link(n *yaml.Node, path string) Link {
	l := Link{Line: n.Line, Column: n.Column}
	var both Path
	given := false
	fields := append(r.path(&both), []field{
		{"between", func(n *yaml.Node, path string) { given = true; r.between(n, path, &l) }},
		{"interval", func(n *yaml.Node, path string) { r.interval(n, path, &l.From, &l.To) }},
		{"period", r.duration(&l.Period, time.Second, maxDuration)},
		{"forward", func(n *yaml.Node, path string) { r.mapping(n, path, r.path(&l.Forward)) }},
		{"backward", func(n *yaml.Node, path string) { r.mapping(n, path, r.path(&l.Backward)) }},
	}...)
	r.mapping(n, path, fields)
	if !given {
		r.Fail(n, path, "says not between which hosts; write between: [client, server]")
	}
	if l.Period > 0 && l.To == 0 {
		r.Fail(n, path, "has a period and no interval; write interval: [FROM, TO]")
	}
	if l.Period > 0 && l.To > l.Period {
		r.Fail(n, path, "has an interval that ends after its period")
	}
	l.Forward.inherit(&both)
	l.Backward.inherit(&both)
	return l
}

// path is the table of what one direction may state.
func (r *reader) path(p *Path) []field {
	return []field{
		{"delay", func(n *yaml.Node, path string) {
			p.Delay = new(time.Duration)
			r.duration(p.Delay, 0, MaxDelay)(n, path)
		}},
		{"jitter", func(n *yaml.Node, path string) { r.jitters(n, path, p) }},
		{"loss", func(n *yaml.Node, path string) {
			p.Loss = new(float64)
			r.number(p.Loss, 0, 1)(n, path)
		}},
	}
}

// inherit takes from a less specific path what p does not state itself.
func (p *Path) inherit(from *Path) {
	if p.Delay == nil {
		p.Delay = from.Delay
	}
	if p.Jitter == nil {
		p.Jitter = from.Jitter
	}
	if p.Loss == nil {
		p.Loss = from.Loss
	}
}

func (r *reader) between(n *yaml.Node, path string, l *Link) {
	if n.Kind != yaml.SequenceNode || len(n.Content) != 2 {
		r.Fail(n, path, "wants two hosts; write [client, server]")
		return
	}
	for i, end := range n.Content {
		r.each(end, path, r.words(&l.Between[i], "the name of a host", "client"))
	}
}

// interval reads [FROM, TO] with FROM < TO.
func (r *reader) interval(n *yaml.Node, path string, from, to *time.Duration) {
	if n.Kind != yaml.SequenceNode || len(n.Content) != 2 {
		r.Fail(n, path, "wants two times; write [25000s, 28600s]")
		return
	}
	before := r.Failures()
	r.each(n.Content[0], path, r.duration(from, 0, maxDuration))
	r.each(n.Content[1], path, r.duration(to, 0, maxDuration))
	if r.Failures() == before && *from >= *to {
		r.Fail(n, path, "ends before it begins")
	}
}

// jitters reads one distribution or a list of them, to be summed.
func (r *reader) jitters(n *yaml.Node, path string, p *Path) {
	p.Jitter = []Jitter{}
	if n.Kind == yaml.SequenceNode {
		r.Rows(n, path, "[{distribution: exponential, mean: 10us}]", func(n *yaml.Node, path string) { p.Jitter = append(p.Jitter, r.jitter(n, path)) })
		return
	}
	if !config.Null(n) && (n.Kind != yaml.MappingNode || len(n.Content) > 0) {
		p.Jitter = append(p.Jitter, r.jitter(n, path))
	}
}

// needs is what each distribution takes, in words for a problem.
var needs = map[Distribution]string{
	Exponential: "{distribution: exponential, mean: 10us}",
	Normal:      "{distribution: normal, mean: 50us, deviation: 10us}",
	Uniform:     "{distribution: uniform, from: 0us, to: 20us}",
	Gamma:       "{distribution: gamma, mean: 10us, shape: 4}",
	Pareto:      "{distribution: pareto, mean: 10us, shape: 2.5}",
}

var distributionNames = []string{string(Exponential), string(Normal), string(Uniform), string(Gamma), string(Pareto)}

func (r *reader) jitter(n *yaml.Node, path string) Jitter {
	j := Jitter{Probability: 1}
	name := ""
	given := map[string]bool{}
	note := func(name string, read func(*yaml.Node, string)) field {
		return field{name, func(n *yaml.Node, path string) { given[name] = true; read(n, path) }}
	}
	r.mapping(n, path, []field{
		{"distribution", r.words(&name, "the name of a distribution", "exponential")},
		note("mean", r.duration(&j.Mean, 0, MaxDelay)),
		note("deviation", r.duration(&j.Deviation, 0, MaxDelay)),
		note("from", r.duration(&j.From, 0, MaxDelay)),
		note("to", r.duration(&j.To, 0, MaxDelay)),
		note("shape", r.number(&j.Shape, 0.01, 1e6)),
		{"probability", r.number(&j.Probability, 0, 1)},
		{"correlation", r.duration(&j.Correlation, 0, maxDuration)},
	})
	j.Distribution = Distribution(name)
	wants := map[Distribution][]string{
		Exponential: {"mean"}, Normal: {"mean", "deviation"}, Uniform: {"from", "to"},
		Gamma: {"mean", "shape"}, Pareto: {"mean", "shape"},
	}[j.Distribution]
	if wants == nil {
		r.Fail(n, path+".distribution", "%q is no distribution; %s", name, config.Suggest(name, distributionNames))
		return j
	}
	taken := 0
	for _, want := range wants {
		if given[want] {
			taken++
		}
	}
	if taken != len(wants) || len(given) != len(wants) {
		r.Fail(n, path, "does not have what %s takes; write %s", name, needs[j.Distribution])
	}
	if j.Distribution == Uniform && j.From > j.To {
		r.Fail(n, path, "has from above to")
	}
	if j.Distribution == Pareto && j.Shape <= 1 {
		r.Fail(n, path, "has a shape of 1 or less: such a distribution has no mean")
	}
	return j
}
