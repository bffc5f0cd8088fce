package smear

import (
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

var leap = ntptime.WallOf(time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC))

// at is UTC, and whether the leap second is over, so many seconds after the window began.
func at(s *Smear, elapsed time.Duration) (ntptime.Wall, bool) {
	start := s.Leap.Add(-s.Window / 2)
	half := s.Window / 2
	if s.Delete {
		half -= time.Second
	}
	if !s.Delete && elapsed >= half+time.Second || s.Delete && elapsed >= half {
		return start.Add(elapsed - time.Duration(s.sign())*time.Second), true
	}
	return start.Add(elapsed), false
}

func TestSmearedTimeIsMonotonicAndSteady(t *testing.T) {
	for _, test := range []Smear{
		{Leap: leap, Window: 24 * time.Hour}, {Leap: leap, Window: 24 * time.Hour, Shape: Cosine},
		{Leap: leap, Window: 24 * time.Hour, Delete: true}, {Leap: leap, Window: 2000 * time.Second, Delete: true, Shape: Cosine},
	} {
		length := test.Window + time.Duration(test.sign())*time.Second
		var last ntptime.Wall
		step := 500 * time.Millisecond
		for e := time.Duration(0); e <= length; e += step {
			w, after := at(&test, e)
			smeared := w.Add(test.Offset(w, after))
			if e > 0 {
				rate := smeared.Sub(last).Seconds()/step.Seconds() - 1
				limit := 1.05 / length.Seconds()
				if test.Shape == Cosine {
					limit *= 1.6
				}
				if rate > limit || rate < -limit {
					t.Fatalf("%+v: rate %.3g at %v", test, rate, e)
				}
			}
			last = smeared
		}
		first, _ := at(&test, 0)
		end, after := at(&test, length)
		if test.Offset(first, false) != 0 || test.Offset(end, after) != 0 || !after {
			t.Errorf("%+v: begins at %v, ends at %v", test, test.Offset(first, false), test.Offset(end, after))
		}
	}
}

func TestHalfASecondAtTheLeap(t *testing.T) {
	s := Smear{Leap: leap, Window: 24 * time.Hour}
	before, after := s.Offset(leap, false), s.Offset(leap, true)
	if before > -499*time.Millisecond || before < -501*time.Millisecond || after-before < 999*time.Millisecond || after-before > time.Second {
		t.Errorf("%v before, %v after", before, after)
	}
	if s.Active(leap.Add(-12*time.Hour)) || !s.Active(leap.Add(-12*time.Hour+1)) || !s.Active(leap.Add(12*time.Hour-1)) {
		t.Error("the window is not centred on the leap second")
	}
	if (&Smear{}).Active(leap) || (&Smear{}).Offset(leap, true) != 0 {
		t.Error("no leap second, and yet it is smeared")
	}
}

func TestReferenceID(t *testing.T) {
	for offset, want := range map[time.Duration]string{
		0: "254.0.0.0", 500 * time.Millisecond: "254.32.0.0", -500 * time.Millisecond: "254.224.0.0",
	} {
		id := ReferenceID(offset)
		if got := id.Format(2); got != want {
			t.Errorf("%v: %s, want %s", offset, got, want)
		}
		if !Tells(id) {
			t.Errorf("%s is not recognised where it should be", want)
		}
	}
	if !Tells(chronySmoothed) || Tells(wire.ReferenceName("GPS")) || Tells(127<<24|127<<16|1<<8|1) {
		t.Error("chronyd's smoothed time is not recognised")
	}
}
