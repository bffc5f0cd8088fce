package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"timeball/internal/lab"
)

func TestGrowthIsFound(t *testing.T) {
	flat := point{goroutines: 40, resident: 30 << 20, log: 1000}
	series := func(change func(i int, p *point)) record {
		var r record
		for i := range 30 {
			p := flat
			change(i, &p)
			r = append(r, p)
		}
		return r
	}
	for _, test := range []struct {
		name   string
		record record
		want   string // part of the error; "": none
	}{
		{"a steady run is good", series(func(int, *point) {}), ""},
		{"a spike is no growth", series(func(i int, p *point) {
			if i == 29 {
				p.goroutines, p.resident = 400, 300<<20
			}
		}), ""},
		{"goroutines that leak", series(func(i int, p *point) { p.goroutines += i }), "goroutines"},
		{"memory that leaks", series(func(i int, p *point) { p.resident += int64(i) << 18 }), "memory"},
		{"a log that grows", series(func(i int, p *point) { p.log += int64(i) << 14 }), "log"},
		{"nothing measured", nil, "nothing was measured"},
	} {
		err := test.record.judge(&lab.State{})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestMutantsDifferAndAreTheSameForASeed(t *testing.T) {
	one, same, other := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(2, 1))
	differ := 0
	for range 1000 {
		a, b, c := mutant(one), mutant(same), mutant(other)
		if string(a) != string(b) {
			t.Fatalf("got % x and % x from one seed, want the same", a, b)
		}
		if string(a) != string(c) {
			differ++
		}
	}
	if differ < 990 {
		t.Errorf("got %d of 1000 packets that differ between seeds, want nearly all", differ)
	}
}

func TestAShortSoakPasses(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	s := settings{scenario: "../../configs/quickstart.yaml", duration: 20 * time.Second, warm: 12 * time.Second,
		every: 500 * time.Millisecond, rate: 300, seeds: 3}
	if err := soak(context.Background(), &s); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
