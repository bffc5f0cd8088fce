package daemon

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Every line of the log is a sentence that is understood alone: who, what, with sign and
// unit; never a bare word with the rest in fields.
func TestLogLinesAreSentences(t *testing.T) {
	right, liar := falseServer(t, ahead(5*time.Second)), falseServer(t, ahead(time.Hour))
	d := start(t, fmt.Sprintf("clock: {driver: virtual, step: {threshold: 100ms, updates: 3}}\nlocal: {stratum: 10}\n"+
		"sources: [{server: \"%s\", min_poll: -3, max_poll: -3, trust: true}, {server: \"%s\", min_poll: -3, max_poll: -3}]\n", right, liar))
	d.until("the clock is stepped", func() bool {
		return d.Said("the clock was stepped by +5.") > 0 || d.Said("the clock was stepped by +4.") > 0
	})
	d.until("the liar is told", func() bool { return d.Said("is a falseticker") > 0 })
	line := regexp.MustCompile(`^\S+\t[A-Z]+\t([^\t]*)`)
	for text := range strings.Lines(d.Log()) {
		match := line.FindStringSubmatch(text)
		if match == nil {
			t.Errorf("got %q, want time, level and sentence", text)
			continue
		}
		if words := strings.Fields(match[1]); len(words) < 2 {
			t.Errorf("got %q, want a sentence", text)
		}
		if strings.Contains(text, `"value"`) || strings.Contains(text, `"text"`) {
			t.Errorf("got %q, want its facts in the sentence", text)
		}
	}
}

// Of servers that are all as good, one stays the system peer.
func TestSelectionAmongEqualsDoesNotFlap(t *testing.T) {
	var sources []string
	for range 4 {
		at := falseServer(t, func(_, r []byte) []byte {
			time.Sleep(time.Duration(rand.ExpFloat64() * float64(300*time.Microsecond)))
			return r
		})
		sources = append(sources, fmt.Sprintf("{server: \"%s\", min_poll: -4, max_poll: -4}", at))
	}
	d := start(t, "clock: {driver: virtual}\nsources: ["+strings.Join(sources, ", ")+"]\n")
	d.until("it is synchronized", d.synchronized)
	time.Sleep(2 * time.Second) // their jitter is known
	before := d.Said("system peer now") + d.Said("\tselected\t")
	time.Sleep(6 * time.Second)
	if changes := d.Said("system peer now") + d.Said("\tselected\t") - before; changes > 2 {
		t.Errorf("got %d changes of the system peer within 6 s, want 2 at most", changes)
	}
}
