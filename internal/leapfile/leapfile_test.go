package leapfile

import (
	"crypto/sha1"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"timeball/internal/ntptime"
)

// signed makes a list of its parts with a hash that fits.
func signed(updated, expires string, rows ...string) string {
	digest := sha1.New()
	digest.Write([]byte(updated + expires))
	text := "#\tcomment\n#$\t " + updated + "\n#@\t" + expires + "\n"
	for _, row := range rows {
		digest.Write([]byte(strings.Join(strings.Fields(row), "")))
		text += strings.ReplaceAll(row, " ", "\t") + "\t# a day\n"
	}
	sum := digest.Sum(nil)
	text += fmt.Sprintf("#h %x %x %x %x %x\n", sum[0:4], sum[4:8], sum[8:12], sum[12:16], sum[16:20])
	return text
}

const (
	jan1972 = "2272060800"
	jul1972 = "2287785600"
	jan2017 = "3692217600"
)

var good = signed("3676924800", "4291747200", jan1972+" 10", jul1972+" 11")

func TestParseTakesAWholeList(t *testing.T) {
	l, err := Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(l.Entries), 2; got != want {
		t.Fatalf("got %d entries, want %d", got, want)
	}
	want := Entry{ntptime.WallOf(time.Date(1972, 7, 1, 0, 0, 0, 0, time.UTC)), 11}
	if got := l.Entries[1]; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	expires := ntptime.WallOf(time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC))
	if l.Expires != expires {
		t.Errorf("got expiry %v, want %v", l.Expires.Time(), expires.Time())
	}
	if l.Expired(expires-1) || !l.Expired(expires) {
		t.Error("a list expires at its expiry, not before and not after")
	}
}

func TestParseLeavesOutLeadingZerosOfHashWords(t *testing.T) {
	// The IERS writes the words of the hash without leading zeros.
	for i := range 400 {
		text := signed(fmt.Sprint(3676924800+i), "4291747200", jan1972+" 10")
		at := strings.Index(text, "#h ")
		words := strings.Fields(text[at+3:])
		for j, w := range words {
			words[j] = strings.TrimLeft(w, "0")
			if words[j] == "" {
				words[j] = "0"
			}
		}
		if _, err := Parse(text[:at] + "#h " + strings.Join(words, " ") + "\n"); err != nil {
			t.Fatalf("list %d: %v", i, err)
		}
	}
}

func TestParseRefusesWhatIsNotWhole(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an empty file", "", "no leap seconds"},
		{"a text", "hello\n", "line 1"},
		{"a row too few", strings.Replace(good, jul1972+"\t11\t# a day\n", "", 1), "hash"},
		{"a changed offset", strings.Replace(good, "\t11", "\t12", 1), "not one leap second"},
		{"a changed expiry", strings.Replace(good, "4291747200", "4291747201", 1), "hash"},
		{"no hash", good[:strings.Index(good, "#h")], "no hash"},
		{"no expiry", strings.Replace(good, "#@", "# ", 1), "no expiry"},
		{"rows out of order", signed("3676924800", "4291747200", jul1972+" 11", jan1972+" 10"), "not one leap second"},
		{"seconds before 1970", signed("3676924800", "4291747200", "12 10"), "since 1900"},
		{"a hash of four words", strings.Replace(good, "#h ", "#h 0 ", 1), "6 words"},
		{"a leap of two seconds", signed("3676924800", "4291747200", jan1972+" 10", jan2017+" 12"), "not one leap second"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("#@ 1\n#h 0 0 0 0 0\n1 1")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse(text)
		if err == nil && len(l.Entries) == 0 {
			t.Error("a list without entries was taken")
		}
	})
}

func TestParseTakesTheListOfThisSystem(t *testing.T) {
	data, err := os.ReadFile("/usr/share/zoneinfo/leap-seconds.list")
	if err != nil {
		t.Skip("this system ships no list")
	}
	l, err := Parse(string(data))
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Entries[len(l.Entries)-1].TAI; got < 37 {
		t.Errorf("got TAI-UTC %d at the end, want 37 or more", got)
	}
}
