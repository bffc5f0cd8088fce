package virtual

import (
	"math"
	"time"

	"timeball/internal/scenario"
)

// Network is every link of a run, by direction.
type Network struct {
	directions map[[2]int]*Direction // by the indices of sender and receiver
	reach      [][]int               // those whom a broadcast of a host reaches, in the file's order
}

// Direction is the way from one host to another: what the rows say of it, and the
// generator that its delays are drawn from.
type Direction struct {
	rows   []Row
	random Stream
	parts  [][]part // memory of correlated jitter, by row and part
}

// Row is one row of links as seen from one direction.
type Row struct {
	link *scenario.Link
	path *scenario.Path
}

// part is the last value of a jitter that lasts.
type part struct {
	at    int64
	value float64
	drawn bool
}

// NewNetwork makes the links of a scenario for a run with a seed.
func NewNetwork(s *scenario.Scenario, seed uint64) *Network {
	n := &Network{directions: map[[2]int]*Direction{}, reach: make([][]int, len(s.Hosts))}
	index := map[string]int{}
	for i := range s.Hosts {
		index[s.Hosts[i].Name] = i
	}
	for i := range s.Links {
		l := &s.Links[i]
		a, b := index[l.Between[0]], index[l.Between[1]]
		n.add(s, seed, a, b, Row{l, &l.Forward})
		n.add(s, seed, b, a, Row{l, &l.Backward})
	}
	for from := range s.Hosts {
		for to := range s.Hosts {
			if n.directions[[2]int{from, to}] != nil {
				n.reach[from] = append(n.reach[from], to)
			}
		}
	}
	return n
}

// Direction is the way from one host to another by their indices, nil if there is none.
func (n *Network) Direction(from, to int) *Direction { return n.directions[[2]int{from, to}] }

// Reached are those whom a broadcast of a host reaches, in the file's order.
func (n *Network) Reached(from int) []int { return n.reach[from] }

func (n *Network) add(s *scenario.Scenario, seed uint64, from, to int, r Row) {
	d := n.directions[[2]int{from, to}]
	if d == nil {
		d = &Direction{random: NewStream(seed, "link "+s.Hosts[from].Name+" "+s.Hosts[to].Name)}
		n.directions[[2]int{from, to}] = d
	}
	d.rows = append(d.rows, r)
	d.parts = append(d.parts, make([]part, len(r.path.Jitter)))
}

// Send draws what happens to a packet sent at t: its delay in nanoseconds, or false
// if it is lost. Rows that hold later in the file win in what they state.
func (d *Direction) Send(t int64) (delay int64, arrives bool) {
	var base time.Duration
	var loss float64
	jitter := -1
	for i := range d.rows {
		r := &d.rows[i]
		if !r.link.Holds(time.Duration(t)) {
			continue
		}
		if r.path.Delay != nil {
			base = *r.path.Delay
		}
		if r.path.Loss != nil {
			loss = *r.path.Loss
		}
		if r.path.Jitter != nil {
			jitter = i
		}
	}
	if loss > 0 && d.random.Float64() < loss {
		return 0, false
	}
	total := float64(base)
	if jitter >= 0 {
		parts := d.rows[jitter].path.Jitter
		for i := range parts {
			total += d.draw(&parts[i], &d.parts[jitter][i], t)
		}
	}
	// A delay that is not positive means that the packet is lost, as in the reference
	// models; a link without any delay at all is an idealization and works.
	delay = int64(math.Round(total))
	return delay, delay > 0 || total == 0
}

// draw gives one part of the jitter in nanoseconds.
func (d *Direction) draw(j *scenario.Jitter, last *part, t int64) float64 {
	if j.Correlation > 0 {
		gap := float64(t-last.at) / float64(j.Correlation)
		last.at = t
		if last.drawn && d.random.Float64() < math.Exp(-gap) {
			return last.value
		}
		last.drawn, last.value = true, d.fresh(j)
		return last.value
	}
	return d.fresh(j)
}

func (d *Direction) fresh(j *scenario.Jitter) float64 { return d.random.Jitter(j) }
