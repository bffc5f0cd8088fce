package nts

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/siv"
)

const day = 24 * time.Hour

var start = ntptime.WallOf(time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC))

// threats 32: a key that was rotated away is still taken for as long as it is kept.
func TestRFC8915_6_OldKeysAreTakenForAWhile(t *testing.T) {
	secrets, w, random := secretsOf(siv.AESSIVCMAC256, 3), new(Worker), new(counter)
	ring := NewRing([RingKeySize]byte{5}, start)
	cookie := ring.AppendCookie(nil, &secrets, random)
	for rotations := 1; rotations <= 5; rotations++ {
		ring = ring.Advance(start.Add(time.Duration(rotations)*day), day, 3)
		var got Secrets
		taken := ring.OpenCookie(w, cookie, &got)
		if taken != (rotations <= 3) || taken && got != secrets {
			t.Errorf("after %d rotations with 3 old keys kept: taken: %v", rotations, taken)
		}
		if ring.Len() != min(rotations, 3)+1 {
			t.Errorf("after %d rotations: got %d keys", rotations, ring.Len())
		}
	}
}

// Servers that were given the same ring stay in step, whatever each has seen since.
func TestRingsOfOneOriginStayInStep(t *testing.T) {
	secrets, w, random := secretsOf(siv.AES128GCMSIV, 3), new(Worker), new(counter)
	a := NewRing([RingKeySize]byte{5}, start)
	text, _ := a.AppendText(nil)
	b, err := ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		a = a.Advance(start.Add(time.Duration(i)*7*time.Hour), day, 2)
	}
	b = b.Advance(start.Add(63*time.Hour), day, 2)
	var got Secrets
	if !b.OpenCookie(w, a.AppendCookie(nil, &secrets, random), &got) || got != secrets {
		t.Error("one does not take the other's newest cookie")
	}
	one, _ := a.AppendText(nil)
	other, _ := b.AppendText(nil)
	if !bytes.Equal(one, other) {
		t.Errorf("got %s and %s", one, other)
	}
}

func TestAdvanceChangesNothingBeforeItsTime(t *testing.T) {
	ring := NewRing([RingKeySize]byte{5}, start)
	for _, now := range []ntptime.Wall{0, start.Add(-400 * day), start, start.Add(day - 1)} {
		if ring.Advance(now, day, 7) != ring {
			t.Errorf("at %v: got another ring", now.Time())
		}
	}
	far := ring.Advance(start.Add(200*365*day), time.Hour, 7)
	if far.Len() != 8 || far.Due(time.Hour) <= start.Add(200*365*day) {
		t.Errorf("two centuries on: got %d keys, the next due %v", far.Len(), far.Due(time.Hour).Time())
	}
	if got := far.Advance(start, day, 2).Len(); got != 3 {
		t.Errorf("fewer to be kept: got %d keys, want 3", got)
	}
}

func TestParseRing(t *testing.T) {
	ring := NewRing([RingKeySize]byte{5}, start).Advance(start.Add(3*day), day, 7)
	good, _ := ring.AppendText(nil)
	again, err := ParseRing(good)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := again.AppendText(nil); !bytes.Equal(text, good) {
		t.Errorf("got %s, want %s", text, good)
	}
	line := strings.SplitAfter(string(good), "\n")[1]
	for _, test := range []struct{ name, text, want string }{
		{"an empty file", "", "no file of cookie keys"},
		{"another file", "hello\n", "no file of cookie keys"},
		{"no key", ringHead, "no key in it"},
		{"a line cut short", ringHead + line[:len(line)-1], "line 2: cut short"},
		{"a key cut short", ringHead + line[:len(line)-3] + "\n", "line 2: the key is not of 64"},
		{"a key that is none", ringHead + line[:len(line)-3] + "zz\n", "line 2: the key is not of 64"},
		{"no time", ringHead + line + "x" + line, "line 3: no time"},
		{"a time before ours", ringHead + "1066" + line[4:], "line 2: no time"},
		{"far too many", ringHead + strings.Repeat(line, maxRing+1), "one of more than 1000"},
	} {
		if r, err := ParseRing([]byte(test.text)); r != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, %v, want %q", test.name, r, err, test.want)
		}
	}
}

func FuzzParseRing(f *testing.F) {
	text, _ := testRing().AppendText(nil)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := ParseRing(text)
		if err != nil {
			return
		}
		again, _ := ring.AppendText(nil)
		if back, err := ParseRing(again); err != nil || back.Len() != ring.Len() {
			t.Errorf("written again: %v", err)
		}
	})
}

func TestOpenCookieRefuses(t *testing.T) {
	secrets, w, ring := secretsOf(siv.AESSIVCMAC384, 3), new(Worker), testRing()
	cookie := ring.AppendCookie(nil, &secrets, new(counter))
	for bit := range len(cookie) * 8 {
		cookie[bit/8] ^= 1 << (bit % 8)
		if got := secretsOf(siv.AESSIVCMAC512, 1); ring.OpenCookie(w, cookie, &got) || got != (Secrets{}) {
			t.Errorf("bit %d flipped: taken, or something left", bit)
		}
		cookie[bit/8] ^= 1 << (bit % 8)
	}
	for n := range cookie {
		var got Secrets
		if ring.OpenCookie(w, cookie[:n], &got) {
			t.Errorf("%d bytes of a cookie taken", n)
		}
	}
}
