package filter

import "math"

// Part is one source's share in a replay: its exchanges, and the bias of its
// offset that is to be taken off.
type Part struct {
	Filter *Filter
	Bias   float64
	Since  int64 // raw ns: exchanges from before are left out; 0: none is
}

// Replay works a state out anew from the registers of some sources, in the
// order in which the exchanges happened.
func Replay(t *Tracker, s Start, parts ...Part) {
	var next [16]int // how many of each register are still to come; more sources than this are left out
	if len(parts) > len(next) {
		parts = parts[:len(next)]
	}
	for i := range parts {
		next[i] = parts[i].Len()
	}
	t.Reset()
	for index := 0; ; index++ {
		k := earliest(parts, next[:])
		if k < 0 {
			return
		}
		next[k]--
		f := parts[k].Filter
		f.replay(t, f.Last(next[k]), index, s, parts[k].Bias, len(parts)+1)
	}
}

// Len is how many exchanges of the register the part's Since leaves.
func (p *Part) Len() int {
	n := p.Filter.Len()
	for n > 0 && p.Filter.Last(n-1).At < p.Since {
		n--
	}
	return n
}

// earliest returns the part whose next exchange is the oldest, or −1. Of equal
// ones the first part's.
func earliest(parts []Part, next []int) int {
	best, at := -1, int64(0)
	for i := range parts {
		if next[i] == 0 {
			continue
		}
		if x := parts[i].Filter.Last(next[i] - 1); best < 0 || x.At < at {
			best, at = i, x.At
		}
	}
	return best
}

func (f *Filter) replay(t *Tracker, x *Exchange, index int, s Start, bias float64, patience int) {
	if !t.Started() {
		if f.impossible(x, s.Freq) {
			return
		}
		e := Estimate{At: x.At, Freq: s.Freq, P11: s.SD * s.SD}
		t.Start(x.At, f.Window(x, index, &e).Shifted(bias), s.Freq, s.SD)
		return
	}
	e := t.bank.frequency()
	if f.impossible(x, e.Freq) {
		return
	}
	w := f.Window(x, index, &e).Shifted(bias)
	if patience > alone {
		w.Edge = math.Hypot(w.Edge, f.Slant())
	}
	t.Update(x.At, &w, patience)
}

// alone is the patience of a replay of one source.
const alone = 2

// frequency is a cheap estimate of the frequency alone, from the best member.
func (b *Bank) frequency() Estimate {
	m := &b.m[b.bestMember()]
	return Estimate{At: b.at, Freq: m.y, P11: m.p11}
}

// resume goes back to the last good state and takes the exchanges since then
// by the path as it is known now.
func (f *Filter) resume(t *Tracker, patience int) {
	if f.good.started {
		t.bank, t.conflicts = f.good, 0
	}
	for i := f.Len() - 1; i >= 0; i-- {
		x := f.Last(i)
		e := t.bank.frequency()
		if x.At <= t.bank.at || f.impossible(x, e.Freq) {
			continue
		}
		w := f.Window(x, f.count-1-i, &e)
		t.Update(x.At, &w, patience)
	}
}
