// Package golden holds what a test writes against what it wrote when somebody last read it:
// traces in testdata, from which a reader learns what goes in and what comes out.
// `go test -update` writes them anew; what changes is to be read.
package golden

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"timeball/internal/ntptime"
)

var update = flag.Bool("update", false, "write what is expected in testdata anew")

// Compare compares a text with that of a file, or writes it there.
func Compare(t testing.TB, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	line := func(lines []string, i int) string {
		if i < len(lines) {
			return lines[i]
		}
		return "(nothing)"
	}
	for i := range max(len(gotLines), len(wantLines)) {
		if g, w := line(gotLines, i), line(wantLines, i); g != w {
			t.Fatalf("%s:%d: got\n%s\nwant\n%s\n(go test -update writes it anew; read what has changed)", file, i+1, g, w)
		}
	}
}

// Trace is what happened, a line each under headings, with names for timestamps: who made
// one and its number, so that a reader sees which field answers which.
type Trace struct {
	Width, Digits int // of the column of times, in seconds
	text          strings.Builder
	timed         bool          // a line under this heading has its time
	at            time.Duration // of the last one
	names         map[ntptime.Timestamp]string
	count         map[string]int
}

// Say writes a heading; the next line has its time again.
func (r *Trace) Say(format string, args ...any) {
	fmt.Fprintf(&r.text, "\n# "+format+"\n", args...)
	r.timed = false
}

// Printf writes as fmt does.
func (r *Trace) Printf(format string, args ...any) { fmt.Fprintf(&r.text, format, args...) }

// Line writes one line; the time stands where it is another one.
func (r *Trace) Line(at time.Duration, format string, args ...any) {
	when := ""
	if !r.timed || at != r.at {
		when = fmt.Sprintf("%.*f s", r.Digits, at.Seconds())
	}
	r.timed, r.at = true, at
	text := fmt.Sprintf("%*s  "+format, append([]any{r.Width, when}, args...)...)
	r.text.WriteString(strings.TrimRight(text, " ") + "\n")
}

// Timestamp names a timestamp of a packet from somebody.
func (r *Trace) Timestamp(t ntptime.Timestamp, from string) string {
	if r.names == nil {
		r.names, r.count = map[ntptime.Timestamp]string{0: "0"}, map[string]int{}
	}
	if r.names[t] == "" {
		r.count[from]++
		r.names[t] = fmt.Sprintf("%s%d", from, r.count[from])
	}
	return r.names[t]
}

// Compare holds the trace against testdata/NAME.txt.
func (r *Trace) Compare(t testing.TB, name string) {
	t.Helper()
	Compare(t, "testdata/"+name+".txt", strings.TrimLeft(r.text.String(), "\n"))
}
