package picture

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"timeball/internal/scenario"
)

// drawnHost is a host with a series and events, as a run would have left it.
func drawnHost(name string, series []float64, marks ...Mark) Host {
	sum := 0.0
	for _, x := range series {
		sum = math.Hypot(sum, x)
	}
	return Host{Name: name, Errors: series, Marks: marks, RMSError: sum / math.Sqrt(float64(max(1, len(series))))}
}

func drawnResult(duration time.Duration, hosts ...Host) *Run {
	return &Run{Scenario: &scenario.Scenario{Duration: duration, Settle: duration / 10, Seed: 7}, Hosts: hosts}
}

func drawn(t *testing.T, r *Run) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// element is an element of a picture, with the attributes it takes from those around it.
type element struct {
	name string
	with map[string]string
	text string
}

// elements reads a picture as XML.
func elements(t *testing.T, picture string) []element {
	t.Helper()
	var all []element
	var open []int
	decoder := xml.NewDecoder(strings.NewReader(picture))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("got what is no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local, with: map[string]string{}}
			if len(open) > 0 && all[open[len(open)-1]].name == "g" {
				for name, value := range all[open[len(open)-1]].with {
					e.with[name] = value
				}
			}
			for _, a := range token.Attr {
				e.with[a.Name.Local] = a.Value
			}
			for _, declaration := range strings.Split(e.with["style"], ";") {
				name, value, _ := strings.Cut(declaration, ":")
				e.with[name] = value
			}
			open = append(open, len(all))
			all = append(all, e)
		case xml.CharData:
			if len(open) > 0 {
				all[open[len(open)-1]].text += string(token)
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}

// number is the value of an attribute.
func (e *element) number(t *testing.T, name string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(strings.TrimSuffix(e.with[name], "px"), 64)
	if err != nil || !finite(x) {
		t.Fatalf("%s of %s: got %q, want a number", name, e.name, e.with[name])
	}
	return x
}

// box is what an element covers: its ends, and what a text takes by estimate.
type box struct{ left, top, right, bottom float64 }

func (e *element) box(t *testing.T) (b box, has bool) {
	t.Helper()
	switch e.name {
	case "line":
		x1, y1, x2, y2 := e.number(t, "x1"), e.number(t, "y1"), e.number(t, "x2"), e.number(t, "y2")
		return box{min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)}, true
	case "rect":
		x, y := e.number(t, "x"), e.number(t, "y")
		return box{x, y, x + e.number(t, "width"), y + e.number(t, "height")}, true
	case "polyline":
		return e.polyline(t), true
	case "text":
		return e.textBox(t), true
	}
	return b, false
}

func (e *element) polyline(t *testing.T) box {
	t.Helper()
	b := box{math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)}
	for _, pair := range strings.Fields(e.with["points"]) {
		left, right, _ := strings.Cut(pair, ",")
		x, err := strconv.ParseFloat(left, 64)
		y, err2 := strconv.ParseFloat(right, 64)
		if err != nil || err2 != nil || !finite(x) || !finite(y) {
			t.Fatalf("got point %q, want two numbers", pair)
		}
		b = box{min(b.left, x), min(b.top, y), max(b.right, x), max(b.bottom, y)}
	}
	return b
}

func (e *element) textBox(t *testing.T) box {
	t.Helper()
	x, y, size := e.number(t, "x"), e.number(t, "y"), e.number(t, "font-size")
	width := textWidth(e.text, size)
	switch e.with["text-anchor"] {
	case "middle":
		x -= width / 2
	case "end":
		x -= width
	}
	if strings.HasPrefix(e.with["transform"], "rotate(-90") {
		return box{x + width/2 - size, y - width/2, x + width/2 + 0.25*size, y + width/2}
	}
	return box{x, y - size, x + width, y + 0.25*size}
}

// texts lists the texts of a picture whose attributes include those given.
func texts(all []element, attributes ...string) []element {
	var found []element
	for _, e := range all {
		fits := e.name == "text"
		for i := 0; i < len(attributes); i += 2 {
			fits = fits && e.with[attributes[i]] == attributes[i+1]
		}
		if fits {
			found = append(found, e)
		}
	}
	return found
}

func words(all []element) []string {
	var list []string
	for _, e := range all {
		list = append(list, e.text)
	}
	return list
}

func TestSVGIsWellFormedAndNamesHostsAndEvents(t *testing.T) {
	wrong := []float64{1e-3, -2e-3, 5e-6}
	picture := drawn(t, drawnResult(100*time.Second, drawnHost("good", make([]float64, 3)), drawnHost("better", make([]float64, 3)),
		drawnHost("client", wrong), drawnHost("leaf", wrong, Mark{10e9, "frequency +1 ppm"}, Mark{20e9, "stop"}, Mark{50e9, "start"}), drawnHost("bad", wrong)))
	all := elements(t, picture)
	got := words(texts(all))
	for _, want := range []string{
		"true error of each host, seed 7", "seconds since the start", "clock − true time", "settling",
		"client", "leaf", "bad", "leaf: frequency +1 ppm", "leaf: stop", "leaf: start",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("got texts %q, want %q among them", got, want)
		}
	}
	for _, unwanted := range []string{"good", "better"} {
		if slices.Contains(got, unwanted) {
			t.Errorf("got %q in the legend, want no clock that never errs", unwanted)
		}
	}
	if root := all[0]; root.name != "svg" || root.with["viewBox"] != "0 0 960 480" || !strings.HasPrefix(root.with["font-family"], "Liberation Sans,Arial") {
		t.Errorf("got %v, want a picture that scales, in the fonts of the reader", root)
	}
	if all[1].name != "title" || all[1].text != "true error of each host, seed 7" {
		t.Errorf("got %v first, want the title", all[1])
	}
	if strings.Contains(picture, "<script") || len(picture) > 200_000 {
		t.Errorf("got %d bytes", len(picture))
	}
}

// awkward are results that are hard to draw.
func awkward() map[string]*Run {
	ramp := func(n int, by float64) []float64 {
		series := make([]float64, n)
		for i := range series {
			series[i] = by * float64(i-n/3)
		}
		return series
	}
	var crowd, many []Host
	for i := range 45 {
		crowd = append(crowd, drawnHost(fmt.Sprintf("host%d.of.a.very.long.domain.example.net", i), ramp(100, 1e-6*float64(i+1)),
			Mark{int64(i) * 1e9, "stop"}))
	}
	for i := range 3 {
		h := drawnHost(fmt.Sprint("h", i), ramp(1000, 1e-5))
		for k := range 60 {
			h.Marks = append(h.Marks, Mark{int64(k) * 16e9, "clock set by 30 ms"})
		}
		many = append(many, h)
	}
	endless := strings.Repeat("an endless story ", 50)
	long := drawnResult(100*time.Second, drawnHost(endless, ramp(101, 1e-3), Mark{50e9, endless}))
	long.Scenario.Description = endless
	odd := []float64{math.NaN(), math.Inf(1), 1e-3, math.Inf(-1), -1e-3, math.NaN()}
	settled := drawnResult(10*time.Second, drawnHost("a", ramp(11, 1e-6)))
	settled.Scenario.Settle = time.Hour
	return map[string]*Run{
		"no host":                         drawnResult(10 * time.Second),
		"no series":                       drawnResult(10*time.Second, drawnHost("a", nil)),
		"all zero":                        drawnResult(10*time.Second, drawnHost("a", make([]float64, 11), Mark{5e9, "stop"})),
		"one sample":                      drawnResult(time.Second, drawnHost("a", []float64{3e-6})),
		"a tiny error":                    drawnResult(10*time.Second, drawnHost("a", ramp(11, 1e-300))),
		"a huge error":                    drawnResult(10*time.Second, drawnHost("a", ramp(11, 1e300)), drawnHost("b", ramp(11, 1e-12))),
		"the greatest number":             drawnResult(10*time.Second, drawnHost("a", []float64{math.MaxFloat64, -math.MaxFloat64})),
		"centuries beside picoseconds":    drawnResult(10*time.Second, drawnHost("a", ramp(11, 9e9)), drawnHost("b", ramp(11, 1e-12))),
		"infinite, and no numbers at all": drawnResult(5*time.Second, drawnHost("a", odd)),
		"no finite number":                drawnResult(5*time.Second, drawnHost("a", []float64{math.NaN(), math.Inf(1)})),
		"a constant error":                drawnResult(3*time.Second, drawnHost("a", []float64{2e-6, 2e-6, 2e-6, 2e-6})),
		"a second":                        drawnResult(time.Second, drawnHost("a", []float64{1, -1}, Mark{1e9, "stop"})),
		"thirty days":                     drawnResult(720*time.Hour, drawnHost("a", ramp(2592001, 1e-9), Mark{2592000e9, "stop"})),
		"an hour and a bit":               drawnResult(3661*time.Second, drawnHost("a", ramp(3662, 1e-6))),
		"ten years":                       drawnResult(87600*time.Hour, drawnHost("a", ramp(1000, 1e-6))),
		"settling to the end and beyond":  settled,
		"an event after the end":          drawnResult(10*time.Second, drawnHost("a", ramp(11, 1e-6), Mark{1e12, "step 1 s"})),
		"forty-five hosts":                drawnResult(100*time.Second, crowd...),
		"a hundred and eighty events":     drawnResult(1000*time.Second, many...),
		"endless names":                   long,
	}
}

func TestSVGStaysWithinItsBounds(t *testing.T) {
	for name, r := range awkward() {
		t.Run(name, func(t *testing.T) {
			picture := drawn(t, r)
			if strings.Contains(picture, "NaN") || strings.Contains(picture, "Inf") {
				t.Error("got what is no number in the file")
			}
			for _, e := range elements(t, picture) {
				b, has := e.box(t)
				if !has {
					continue
				}
				if b.left < 0 || b.top < 0 || b.right > pictureWidth || b.bottom > pictureHeight {
					t.Errorf("%s %q %v: got %v outside of the picture", e.name, e.text, e.with, b)
				}
				if e.name == "polyline" && (b.top < plotTop || b.bottom > plotBottom || b.right > plotRight) {
					t.Errorf("got a line at %v outside of the plot", b)
				}
			}
		})
	}
}

func TestSVGWritesNoNumberOrLabelOverAnother(t *testing.T) {
	for name, r := range awkward() {
		t.Run(name, func(t *testing.T) {
			all := texts(elements(t, drawn(t, r)))
			for i := range all {
				for k := range i {
					a, b := all[i].textBox(t), all[k].textBox(t)
					if a.left < b.right && b.left < a.right && a.top+4 < b.bottom && b.top+4 < a.bottom {
						t.Errorf("got %q over %q", all[i].text, all[k].text)
					}
				}
			}
		})
	}
}

func TestSVGIsDeterministic(t *testing.T) {
	again := awkward()
	for name, r := range awkward() {
		if drawn(t, r) != drawn(t, again[name]) {
			t.Errorf("%s: got other bytes the second time", name)
		}
	}
}

func TestSVGMakesTextsHarmless(t *testing.T) {
	for _, hostile := range []string{
		`<script>alert(1)</script>`, `a&b`, `"quoted" 'twice'`, `]]>`, `--><!--`, `&lt;`, "\x00\x1b[31m", "\xff\xfe", "two\nlines", `" onload="alert(1)`, `style=x`, `%s%d`,
	} {
		t.Run(hostile, func(t *testing.T) {
			r := drawnResult(10*time.Second, drawnHost(hostile, []float64{1, 2, 3}, Mark{5e9, hostile}))
			r.Scenario.Description = hostile
			harmless := elements(t, drawn(t, drawnResult(10*time.Second, drawnHost("a", []float64{1, 2, 3}, Mark{5e9, "b"}))))
			all := elements(t, drawn(t, r))
			if len(all) != len(harmless) {
				t.Fatalf("got %d elements, want %d as with a harmless name", len(all), len(harmless))
			}
			for i, e := range all {
				if e.name != harmless[i].name || len(e.with) != len(harmless[i].with) {
					t.Errorf("got %v, want %v as with a harmless name", e, harmless[i])
				}
			}
			plain := strings.ToValidUTF8(strings.NewReplacer("\x00", "�", "\x1b", "�", "\xff", "�", "\xfe", "�", "\n", " ").Replace(hostile), "�")
			if got := words(texts(all)); !slices.Contains(got, plain) || !slices.Contains(got, plain+": "+plain) {
				t.Errorf("got texts %q, want %q as host, title and in the event", got, plain)
			}
		})
	}
}

func TestSVGPutsNumbersAtTheirTicks(t *testing.T) {
	all := elements(t, drawn(t, drawnResult(100*time.Second, drawnHost("a", []float64{1e-3, -2, 5e-6, -1e-6}))))
	tickAt := func(x, y float64) bool { // to half a pixel, and what is rounded off
		return slices.ContainsFunc(all, func(e element) bool {
			return e.name == "line" && e.with["stroke"] == "#333" && math.Abs(e.number(t, "x1")-x) < 0.61 && math.Abs(e.number(t, "y1")-y) < 0.61
		})
	}
	times := texts(all, "font-size", "12", "text-anchor", "middle")
	for _, e := range times {
		if x := e.number(t, "x"); !tickAt(x, plotBottom) {
			t.Errorf("%q: got no tick at %v", e.text, x)
		}
	}
	errors := texts(all, "font-size", "12", "text-anchor", "end")
	for _, e := range errors {
		if e.with["x"] != errors[0].with["x"] {
			t.Errorf("%q: got its end at %s, want all at %s", e.text, e.with["x"], errors[0].with["x"])
		}
		if y := e.number(t, "y") - 0.35*tickSize; !tickAt(e.number(t, "x")+3, y) {
			t.Errorf("%q: got no tick at %v", e.text, y)
		}
	}
	if len(times) != 11 || len(errors) < 5 {
		t.Errorf("got %d times and %d errors", len(times), len(errors))
	}
}

func TestSVGDrawsWhereTheErrorWas(t *testing.T) {
	r := drawnResult(100*time.Second, drawnHost("a", []float64{0, 1, 0, -1, 0}))
	var got []string
	for _, e := range elements(t, drawn(t, r)) {
		if e.name == "polyline" {
			got = strings.Fields(e.with["points"])
		}
	}
	p := &picture{run: r, scale: r.scale(), unit: timeUnit(r.Scenario.Duration)}
	p.prepare()
	if len(got) != 5 {
		t.Fatalf("got points %q, want five", got)
	}
	for k, x := range []float64{0, 1, 0, -1, 0} {
		if want := fmt.Sprintf("%.1f,%.1f", p.x(float64(k)), p.y(x)); got[k] != want {
			t.Errorf("second %d: got %s, want %s", k, got[k], want)
		}
	}
	if !(p.y(1) < p.y(0) && p.y(0) < p.y(-1)) || p.y(0) != (plotTop+plotBottom)/2 || p.x(100) != plotRight || p.x(0) != p.left+plotPad {
		t.Errorf("got 1 at %v, 0 at %v, −1 at %v, want a clock that is ahead at the top", p.y(1), p.y(0), p.y(-1))
	}
}

func TestSVGDrawsASingleSampleAsADot(t *testing.T) {
	picture := drawn(t, drawnResult(time.Second, drawnHost("a", []float64{3e-6})))
	for _, e := range elements(t, picture) {
		if e.name != "polyline" {
			continue
		}
		if points := strings.Fields(e.with["points"]); len(points) != 2 || points[0] != points[1] || e.with["stroke-linecap"] != "round" {
			t.Errorf("got %v, want a line of no length with round ends", e.with)
		}
		return
	}
	t.Error("got no line")
}

func TestSVGGreysTheSettlingTime(t *testing.T) {
	r := drawnResult(100*time.Second, drawnHost("a", []float64{1, 2}))
	p := &picture{run: r, scale: r.scale(), unit: timeUnit(r.Scenario.Duration)}
	p.prepare()
	want := fmt.Sprintf(`x="%.1f" y="%d.0" width="%.1f"`, p.x(0), plotTop, p.x(10)-p.x(0))
	if got := drawn(t, r); !strings.Contains(got, want) || !strings.Contains(got, ">settling<") {
		t.Errorf("got no grey at %s", want)
	}
	r.Scenario.Settle = 0
	if got := drawn(t, r); strings.Contains(got, "settling") || strings.Contains(got, want) {
		t.Error("got settling time where there is none")
	}
}

func TestSVGGivesTheFirstColoursToHostsThatErr(t *testing.T) {
	hosts := []Host{drawnHost("still", make([]float64, 3), Mark{1e9, "stop"})}
	for i := range 10 {
		hosts = append(hosts, drawnHost(fmt.Sprint("h", i), []float64{1, 2, 3}))
	}
	r := drawnResult(2*time.Second, hosts...)
	p := &picture{run: r, scale: r.scale(), unit: timeUnit(r.Scenario.Duration)}
	p.prepare()
	if p.inks[1] != palette[0] || p.inks[8] != palette[7] {
		t.Errorf("got %v and %v, want the first and the last of the palette", p.inks[1], p.inks[8])
	}
	if got := p.inks[9]; got.line != palette[0].line || got.dash == "" {
		t.Errorf("got %v for the ninth, want the first colour, dashed", got)
	}
	if got := p.inks[0]; got.line != palette[2].line {
		t.Errorf("got %v for the clock that never errs, want the colour after the others'", got)
	}
}

func TestSVGLegendSaysHowManyItLeavesOut(t *testing.T) {
	got := words(texts(elements(t, drawn(t, awkward()["forty-five hosts"]))))
	for _, want := range []string{"host28.of.a.very.long.do", "and 16 more"} {
		if !slices.ContainsFunc(got, func(text string) bool { return strings.HasPrefix(text, want) }) {
			t.Errorf("got %q, want %q among them", got, want)
		}
	}
}

func TestSVGTellsAnEventThatHasNoRoomForWords(t *testing.T) {
	all := elements(t, drawn(t, awkward()["a hundred and eighty events"]))
	lines, titles := 0, 0
	for _, e := range all {
		if e.name == "title" && strings.HasSuffix(e.text, "clock set by 30 ms") {
			titles++
		}
		if e.name == "line" && e.with["stroke-dasharray"] == "4 3" {
			lines++
		}
	}
	if lines != 3*mostMarks || titles != lines {
		t.Errorf("got %d lines and %d titles, want %d of each", lines, titles, 3*mostMarks)
	}
	if got := len(texts(all, "font-size", "11")); got < markRows || got > lines {
		t.Errorf("got %d labels, want at least one a row", got)
	}
}

func TestSVGOfALongSeriesIsSmall(t *testing.T) {
	series := make([]float64, 2592001)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range series {
		series[i] = 1e-5 * random.NormFloat64()
	}
	if got := len(drawn(t, drawnResult(720*time.Hour, drawnHost("a", series)))); got > 40_000 {
		t.Errorf("got %d bytes, want under 40,000 a host", got)
	}
}

func TestSVGSaysThatItCannotBeWritten(t *testing.T) {
	full, err := os.Open(os.DevNull) // for reading alone
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := drawnResult(time.Second).Write(full); err == nil || !strings.Contains(err.Error(), "picture cannot be written") {
		t.Errorf("got %v, want the reason", err)
	}
}
