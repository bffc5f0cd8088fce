package picture

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTextWidthIsNearThatOfHelvetica(t *testing.T) {
	// sums of the advance widths in Helvetica's published metrics, in thousandths
	for text, want := range map[string]float64{
		"office": 2280, "client": 2334, "100 ms": 3279, "desk: step": 4394, "Wide MAMMOTH": 8109, "illicit": 2054,
	} {
		if got := textWidth(text, 1000); got < want || got > 1.25*want {
			t.Errorf("%q: got %v, want %v, or a little more", text, got, want)
		}
	}
	if got := textWidth("日本", 10); got != 20 {
		t.Errorf("got %v for two ideographs, want squares", got)
	}
	if got, want := textWidth("e\u0301", 10), textWidth("e", 10); got != want {
		t.Errorf("got %v with a combining accent, want %v", got, want)
	}
}

func TestFitText(t *testing.T) {
	for _, c := range []struct {
		name, text string
		width      float64
		want       string
	}{
		{"what fits stays", "a few words", 200, "a few words"},
		{"what is too long ends in dots, without a space before", "one two three", 55, "one two…"},
		{"several lines become one", "one\n  two\tthree\n", 200, "one two three"},
		{"no character is cut in two", "日本語日本語", 42, "日本語…"},
		{"no room at all", "word", 3, "…"},
		{"nothing", "", 10, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fitText(c.text, 10, c.width); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzFitText(f *testing.F) {
	f.Add("a few words", 40.0)
	f.Add("\xff\x00日本", 10.0)
	f.Fuzz(func(t *testing.T, text string, width float64) {
		got := fitText(text, 10, width)
		if width > 20 && textWidth(got, 10) > width {
			t.Errorf("got %q, wider than %v", got, width)
		}
		if utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("got %q of %q", got, text)
		}
		if strings.ContainsAny(got, "\n\t") {
			t.Errorf("got %q, want one line", got)
		}
	})
}

func TestLabelsTakeTheLowestFreeRow(t *testing.T) {
	labels := []label{{text: "first", x: 10}, {text: "second", x: 20}, {text: "third", x: 30}, {text: "far", x: 300}}
	arrange(labels, 2, 0, 1000)
	for i, want := range []int{0, 1, -1, 0} {
		if got := labels[i].row; got != want {
			t.Errorf("%s: got row %d, want %d", labels[i].text, got, want)
		}
	}
}

func TestLabelsKeepWithinTheEdges(t *testing.T) {
	labels := []label{{text: "on its right", x: 10}, {text: "on its left", x: 190}, {text: "a label as wide as half of all", x: 100}, {text: strings.Repeat("endless ", 50), x: 100}}
	arrange(labels, 10, 0, 200)
	for i, leftOf := range []bool{false, true, false, false} {
		l := labels[i]
		if l.leftOf != leftOf {
			t.Errorf("%s: got left of the line %v, want %v", l.text, l.leftOf, leftOf)
		}
		if l.from < 0 || l.from+l.width > 200 {
			t.Errorf("%s: got %v to %v, want it within 0 to 200", l.text, l.from, l.from+l.width)
		}
	}
}

func TestLabelsAreNeverWrittenOverEachOther(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var labels []label
		for x := 0.0; x < 800; x += 40 * random.Float64() {
			labels = append(labels, label{text: strings.Repeat("x", 1+random.IntN(40)), x: x})
		}
		arrange(labels, 8, 0, 800)
		for i, a := range labels {
			for _, b := range labels[:i] {
				if a.row >= 0 && a.row == b.row && a.from < b.from+b.width && b.from < a.from+a.width {
					t.Fatalf("got %v over %v", a, b)
				}
			}
		}
	}
}
