package history

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	svg "github.com/ajstarks/svgo/float"
)

// A chart, in units of its view box: small enough that its letters can be read on a phone.
const (
	chartWidth  = 480
	plotLeft    = 62
	plotRight   = chartWidth - 6
	plotTop     = 8
	plotHeight  = 108
	axisHeight  = 22
	textSize    = 12
	columns     = 240 // a longer series is drawn in so many columns
	mostLines   = 12  // sources drawn as lines
	rowHeight   = 14  // of the timeline, with names
	lowHeight   = 6   // of the timeline, where there are too many for names
	namedRows   = 24
	sourceLines = 4 // dash patterns and colours repeat after so many
)

// Style is what the pictures need of a style sheet: the page has its own colours, a picture
// alone takes these.
const Style = `text{font:12px system-ui,sans-serif;fill:var(--text,#1b1f24)}
.grid{stroke:var(--line,#d5dae0);stroke-width:1}.zero{stroke:var(--dim,#5b6570);stroke-width:1}
path{stroke-linecap:round}.main{fill:none;stroke:var(--blue,#0060a8);stroke-width:1.6;stroke-linejoin:round}
.second{fill:none;stroke:var(--good,#12703a);stroke-width:1.6}
.band{fill:var(--blue,#0060a8);fill-opacity:.16;stroke:none}
.s0{stroke:#0072b2}.s1{stroke:#d55e00}.s2{stroke:#009e73}.s3{stroke:#cc79a7}.d1{stroke-dasharray:5 2}.d2{stroke-dasharray:2 2}
.l{fill:none;stroke-width:1.4}.good{fill:var(--good,#12703a)}.used{fill:var(--used,#4c9a6b)}.near{fill:var(--near,#b7c9bd)}
.warn{fill:var(--warn,#b97a00)}.bad{fill:var(--bad,#b3261e)}.none{fill:var(--line,#d5dae0)}`

// Chart is one picture.
type Chart struct {
	Title string
	SVG   string // an svg element
}

// Charts draws a view: offset with its bound, frequency, jitter, the sources' offsets,
// the selection, and the server's load where there was any. What has no point is left out.
func (v *View) Charts() []Chart {
	if len(v.Points) == 0 {
		return nil
	}
	var charts []Chart
	add := func(title, picture string) {
		if picture != "" {
			charts = append(charts, Chart{title, picture})
		}
	}
	add("Offset, and the error bound (shaded)", v.offsets())
	add("Frequency correction, ppm (positive: the oscillator is slow)", v.line(func(p *Point) float64 { return p.Frequency * 1e6 }, plainLabel))
	add("Jitter", v.line(func(p *Point) float64 { return p.Jitter }, timeLabel))
	title, picture := v.sourceOffsets()
	add(title, picture)
	add("Selection: each source's state", v.timeline())
	add("Requests per second (blue), answered with the time (green)", v.load())
	return charts
}

// Picture is all charts of a view as one file, one below the other.
func (v *View) Picture(title string) []byte {
	charts := v.Charts()
	var drawn bytes.Buffer
	p := svg.New(&drawn)
	p.Decimals = 1
	height := 34.0
	for _, c := range charts {
		height += heightOf(c.SVG) + 26
	}
	p.Start(chartWidth, height, fmt.Sprintf(`viewBox="0 0 %d %.0f" role="img"`, chartWidth, height))
	p.Title(title)
	fmt.Fprintf(&drawn, "<style>%s</style>\n", Style)
	p.Rect(0, 0, chartWidth, height, `fill="#fff"`)
	p.Text(6, 20, title, `style="font-weight:bold"`)
	y := 34.0
	for _, c := range charts {
		p.Text(6, y+14, c.Title)
		fmt.Fprintf(&drawn, `<g transform="translate(0 %.0f)">%s</g>`+"\n", y+20, c.SVG)
		y += heightOf(c.SVG) + 26
	}
	p.End()
	return drawn.Bytes()
}

// heightOf reads a chart's height back from its view box.
func heightOf(chart string) float64 {
	_, rest, _ := strings.Cut(chart, `viewBox="0 0 480 `)
	text, _, _ := strings.Cut(rest, `"`)
	height, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return height
}

// canvas is a chart under way. Its scale is linear from low at the bottom to high.
type canvas struct {
	*svg.SVG
	drawn     bytes.Buffer
	view      *View
	low, high float64
	height    float64 // of the plot
}

func (v *View) canvas(low, high, height float64, label string) *canvas {
	c := &canvas{view: v, low: low, high: high, height: height}
	c.SVG = svg.New(&c.drawn)
	c.Decimals = 1
	total := plotTop + height + axisHeight
	fmt.Fprintf(&c.drawn, `<svg viewBox="0 0 %d %.0f" width="100%%" role="img" aria-label="%s">`, chartWidth, total, label)
	c.timeAxis()
	return c
}

func (c *canvas) finish() string { c.End(); return c.drawn.String() }

// whole is how long the span is, in seconds.
func (v *View) whole() float64 {
	for i := range spans {
		if spans[i].name == v.Span {
			return spans[i].whole.Seconds()
		}
	}
	return time.Hour.Seconds()
}

func (c *canvas) x(age float64) float64 {
	return plotRight - math.Min(math.Max(age/c.view.whole(), 0), 1)*(plotRight-plotLeft)
}

// y is where a value lies; what is beyond the scale lies on its edge.
func (c *canvas) y(value float64) float64 {
	value = math.Min(math.Max(value, c.low), c.high)
	return plotTop + (c.high-value)/(c.high-c.low)*c.height
}

// timeAxis puts the UTC time at round moments.
func (c *canvas) timeAxis() {
	step, format := 10*time.Minute, "15:04"
	switch c.view.Span {
	case "day":
		step = 4 * time.Hour
	case "week":
		step, format = 24*time.Hour, "Mon"
	}
	end := time.Unix(0, int64(c.view.End*1e9)).UTC()
	bottom := plotTop + c.height
	for at := end.Truncate(step); end.Sub(at).Seconds() < c.view.whole(); at = at.Add(-step) {
		x := c.x(end.Sub(at).Seconds())
		c.Line(x, plotTop, x, bottom, `class="grid"`)
		if x > plotLeft+8 && x < plotRight-8 {
			c.Text(x, bottom+15, at.Format(format), `text-anchor="middle"`)
		}
	}
	c.Line(plotLeft, bottom, plotRight, bottom, `class="grid"`)
}

// valueAxis puts numbers at up to five round values.
func (c *canvas) valueAxis(label func(float64) string) {
	step := roundStep((c.high - c.low) / 4)
	for value := math.Ceil(c.low/step) * step; value <= c.high+step/1e6; value += step {
		class := `class="grid"`
		if math.Abs(value) < step/1e6 {
			value, class = 0, `class="zero"`
		}
		y := c.y(value)
		c.Line(plotLeft, y, plotRight, y, class)
		c.Text(plotLeft-4, y+4, label(value), `text-anchor="end"`)
	}
}

// roundStep is the least of 1, 2, 5 times a power of ten that is no less than least.
func roundStep(least float64) float64 {
	if !(least > 0) {
		return 1
	}
	decade := math.Pow(10, math.Floor(math.Log10(least)))
	for _, factor := range []float64{1, 2, 5} {
		if decade*factor >= least*(1-1e-9) {
			return decade * factor
		}
	}
	return decade * 10
}

func timeLabel(seconds float64) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "−", -seconds
	}
	switch {
	case seconds == 0:
		return "0"
	case seconds < 0.9995e-6:
		return sign + trim(seconds*1e9) + " ns"
	case seconds < 0.9995e-3:
		return sign + trim(seconds*1e6) + " µs"
	case seconds < 0.9995:
		return sign + trim(seconds*1e3) + " ms"
	}
	return sign + trim(seconds) + " s"
}

func plainLabel(value float64) string { return strings.Replace(trim(value), "-", "−", 1) }

func trim(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

// usual is a scale's end that shows the most of a series, not its rare peaks: 1.3 times
// what 95 of 100 values stay below, or the largest where that is not far.
func usual(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	most, largest := sorted[(len(sorted)-1)*95/100]*1.3, sorted[len(sorted)-1]
	if largest <= 1.5*most {
		return largest
	}
	return most
}
