// Package picture draws a run of a scenario as an SVG: the true error of each host over
// time, with what happened to them. It knows of no simulator.
package picture

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"

	svg "github.com/ajstarks/svgo/float"

	"timeball/internal/scenario"
)

// The picture, in pixels of 1/96 inch.
const (
	pictureWidth  = 960
	pictureHeight = 480
	plotTop       = 40
	plotRight     = pictureWidth - 22
	plotBottom    = pictureHeight - 56
	plotPad       = 8 // from the axis to second 0, so that the start can be seen
	titleSize     = 16
	labelSize     = 13
	tickSize      = 12
	markSize      = 11
	labelGap      = 4
	markRow       = 13 // height of a row of events' labels
	markRows      = 12
	mostMarks     = 24 // of one host
	legendRow     = 16
	legendRows    = 10
	legendColumns = 3
	legendSample  = 22  // length of the line in the legend
	legendName    = 180 // widest name in it
)

// The fonts are those of the reader; none is in the file.
const fontFamily = `font-family="Liberation Sans,Arial,Helvetica,sans-serif"`

// ink is how a host is drawn.
type ink struct {
	line string // colour
	text string // colour: darker, for small letters on white
	dash string
}

// palette is that of Okabe and Ito, which readers with any colour vision can tell apart.
var palette = []ink{
	{line: "#0072b2", text: "#005c90"}, {line: "#d55e00", text: "#a84a00"},
	{line: "#009e73", text: "#00734f"}, {line: "#cc79a7", text: "#9c4276"},
	{line: "#e69f00", text: "#8f6300"}, {line: "#56b4e9", text: "#1f74a6"},
	{line: "#000000", text: "#000000"}, {line: "#a0a000", text: "#6b6b00"},
}

// Run is what is drawn.
type Run struct {
	Scenario *scenario.Scenario
	Hosts    []Host // in the file's order
}

// Host is one host over the run.
type Host struct {
	Name     string
	Errors   []float64 // true time error, s, once a second from the start
	RMSError float64   // of the part that counts, s
	Marks    []Mark    // in order of time
}

// Mark is something worth showing.
type Mark struct {
	At   int64 // true nanoseconds since the start
	What string
}

// picture is a drawing under way.
type picture struct {
	*svg.SVG
	run   *Run
	scale symlog
	unit  unit
	left  float64 // of the plot
	inks  []ink   // of each host
	lines [][]sample
}

// Write draws the true error of each host, with the events marked. The vertical axis is
// linear near zero and logarithmic beyond, so that the start and the steady state can both
// be read.
func (r *Run) Write(w io.Writer) error {
	var drawn bytes.Buffer // svgo does not tell of a failed write
	p := &picture{SVG: svg.New(&drawn), run: r, scale: r.scale(), unit: timeUnit(r.Scenario.Duration)}
	p.Decimals = 1
	p.draw()
	if _, err := w.Write(drawn.Bytes()); err != nil {
		return fmt.Errorf("picture cannot be written: %w", err)
	}
	return nil
}

func (p *picture) draw() {
	p.prepare()
	p.Start(pictureWidth, pictureHeight, fmt.Sprintf(`viewBox="0 0 %d %d" role="img" %s`, pictureWidth, pictureHeight, fontFamily))
	p.Title(p.run.title())
	p.Rect(0, 0, pictureWidth, pictureHeight, `fill="#fff"`)
	p.drawTitle()
	p.drawAxes()
	p.drawSettling()
	p.drawSeries()
	p.drawMarks()
	p.drawLegend()
	p.End()
}

// prepare decides what is drawn and how: hosts that err get the first colours, because
// they are seen most. A clock that never errs has no line.
func (p *picture) prepare() {
	hosts := p.run.Hosts
	p.lines, p.inks = make([][]sample, len(hosts)), make([]ink, len(hosts))
	used := 0
	next := func() ink {
		i := palette[used%len(palette)]
		if used/len(palette)%2 == 1 {
			i.dash = "6 2"
		}
		used++
		return i
	}
	errs := func(x float64) bool { return x != 0 && finite(x) }
	for i := range hosts {
		if series := hosts[i].Errors; slices.ContainsFunc(series, errs) {
			p.lines[i], p.inks[i] = envelope(series), next()
		}
	}
	for i := range hosts {
		if p.lines[i] == nil {
			p.inks[i] = next()
		}
	}
	for _, t := range p.errorTicks() {
		p.left = max(p.left, 34+textWidth(t.label, tickSize))
	}
}

func (p *picture) errorTicks() []tick { return p.scale.ticks((plotBottom - plotTop) / 2) }

// x is where a second of the scenario lies, within the plot.
func (p *picture) x(seconds float64) float64 {
	share := seconds / p.run.Scenario.Duration.Seconds()
	from := p.left + plotPad
	return from + min(max(share, 0), 1)*(plotRight-from)
}

// y is where an error of so many seconds lies, within the plot.
func (p *picture) y(err float64) float64 {
	return (plotTop+plotBottom)/2 - p.scale.place(err)*(plotBottom-plotTop)/2
}

func (r *Run) title() string {
	if r.Scenario.Description != "" {
		return r.Scenario.Description
	}
	return fmt.Sprintf("true error of each host, seed %d", r.Scenario.Seed)
}

// drawTitle makes a long title smaller, and cuts a longer one: the whole of it is in
// the element that viewers show when they are pointed at the picture.
func (p *picture) drawTitle() {
	const width = pictureWidth - 40
	title, size := p.run.title(), float64(titleSize)
	for size > tickSize && textWidth(title, size) > width {
		size--
	}
	p.Text(pictureWidth/2, 25, fitText(title, size, width), fmt.Sprintf("text-anchor:middle;font-size:%.0fpx", size))
}

// drawSettling greys what is left out of the statistics.
func (p *picture) drawSettling() {
	from, end := p.x(0), p.x(p.run.Scenario.Settle.Seconds())
	if end <= from {
		return
	}
	p.Rect(from, plotTop, end-from, plotBottom-plotTop, `fill-opacity="0.06"`)
	if end-from > textWidth("settling", markSize)+2*labelGap {
		p.Text((from+end)/2, plotTop+14, "settling", fmt.Sprintf(`font-size="%d" text-anchor="middle" fill="#666" stroke="#f0f0f0" stroke-width="3" paint-order="stroke"`, markSize))
	}
}

// drawAxes draws the grid, and the axes with their numbers and names.
func (p *picture) drawAxes() {
	times := p.unit.ticks(p.run.Scenario.Duration.Seconds() / p.unit.seconds)
	errors := p.errorTicks()
	p.Group(`stroke="#dcdcdc"`)
	for _, t := range times {
		x := crisp(p.x(t.value * p.unit.seconds))
		p.Line(x, plotTop, x, plotBottom)
	}
	for _, t := range errors {
		y := crisp(p.y(t.value))
		p.Line(p.left, y, plotRight, y)
	}
	p.Gend()
	p.Group(`stroke="#333"`)
	left, bottom := crisp(p.left), crisp(plotBottom)
	p.Line(left, plotTop, left, bottom)
	p.Line(left, bottom, plotRight, bottom)
	for _, t := range times {
		x := crisp(p.x(t.value * p.unit.seconds))
		p.Line(x, bottom, x, bottom+5)
	}
	for _, t := range errors {
		y := crisp(p.y(t.value))
		p.Line(left-5, y, left, y)
	}
	p.Gend()
	p.drawNumbers(times, errors)
	p.Text((p.left+plotRight)/2, plotBottom+41, p.unit.name+" since the start", fmt.Sprintf("text-anchor:middle;font-size:%dpx", labelSize))
	const middle = (plotTop + plotBottom) / 2
	p.Text(16, middle, "clock − true time", fmt.Sprintf("text-anchor:middle;font-size:%dpx", labelSize), fmt.Sprintf(`transform="rotate(-90 16 %d)"`, middle))
}

// crisp is the middle of the pixel in which a coordinate lies: a line one pixel wide
// that goes there is not smeared over two.
func crisp(at float64) float64 { return math.Floor(at) + 0.5 }

// drawNumbers writes the times in the middle below their ticks, and the errors at the
// end before theirs.
func (p *picture) drawNumbers(times, errors []tick) {
	p.Group(fmt.Sprintf(`font-size="%d" text-anchor="middle"`, tickSize))
	for _, t := range times {
		p.Text(p.x(t.value*p.unit.seconds), plotBottom+19, t.label)
	}
	p.Gend()
	p.Group(fmt.Sprintf(`font-size="%d" text-anchor="end"`, tickSize))
	for _, t := range errors {
		p.Text(p.left-8, p.y(t.value)+0.35*tickSize, t.label) // half the height of a digit
	}
	p.Gend()
}

// drawSeries draws a line for each host that errs.
func (p *picture) drawSeries() {
	p.Group(`fill="none" stroke-width="1.2" stroke-linejoin="round" stroke-linecap="round"`)
	for i, line := range p.lines {
		if len(line) == 1 { // a line of no length, with round ends, is a dot
			line = append(line, line[0])
		}
		xs, ys := make([]float64, len(line)), make([]float64, len(line))
		for k, point := range line {
			xs[k], ys[k] = p.x(float64(point.second)), p.y(point.value)
		}
		if len(line) > 0 {
			p.Polyline(xs, ys, p.inks[i].attributes())
		}
	}
	p.Gend()
}

func (i ink) attributes() string {
	if i.dash == "" {
		return fmt.Sprintf(`stroke="%s"`, i.line)
	}
	return fmt.Sprintf(`stroke="%s" stroke-dasharray="%s"`, i.line, i.dash)
}

// drawMarks draws a line at each event of a host, and a few words beside it, in
// another row where they would be written over others. Where no row is left there is
// only the line, which tells its event when it is pointed at.
func (p *picture) drawMarks() {
	labels := p.labels()
	arrange(labels, markRows, p.left, plotRight)
	p.Group(`stroke-dasharray="4 3"`)
	for i := range labels {
		l := &labels[i]
		p.Group(fmt.Sprintf(`stroke="%s"`, l.ink.line))
		p.Title(l.text)
		p.Line(l.x, plotTop, l.x, plotBottom)
		p.Gend()
	}
	p.Gend()
	p.Group(fmt.Sprintf(`font-size="%d" stroke="#fff" stroke-width="3" stroke-opacity="0.9" stroke-linejoin="round" paint-order="stroke"`, markSize))
	for i := range labels {
		l := &labels[i]
		if l.row < 0 {
			continue
		}
		x, anchor := l.from, "start"
		if l.leftOf {
			x, anchor = l.x-labelGap, "end"
		}
		p.Text(x, plotBottom-5-float64(l.row*markRow), l.text, fmt.Sprintf(`fill="%s" text-anchor="%s"`, l.ink.text, anchor))
	}
	p.Gend()
}

// labels lists the events of all hosts, in the order of time.
func (p *picture) labels() []label {
	var labels []label
	for i := range p.run.Hosts {
		h := &p.run.Hosts[i]
		marks := h.Marks
		for _, m := range marks[:min(len(marks), mostMarks)] {
			labels = append(labels, label{text: h.Name + ": " + m.What, x: p.x(float64(m.At) * 1e-9), ink: p.inks[i]})
		}
	}
	slices.SortStableFunc(labels, func(a, b label) int { return cmp.Compare(a.x, b.x) })
	return labels
}

// drawLegend names the lines in the upper right corner, in columns if there are many.
func (p *picture) drawLegend() {
	names, inks := p.legend()
	if len(names) == 0 {
		return
	}
	rows := min(len(names), legendRows)
	count := (len(names) + rows - 1) / rows
	widest := 0.0
	for _, name := range names {
		widest = max(widest, textWidth(name, tickSize))
	}
	column := legendSample + 6 + widest + 12
	width := float64(count)*column + 4
	left := plotRight - 6 - width
	p.Rect(left, plotTop+6, width, float64(rows*legendRow+8), `fill="#fff" fill-opacity="0.85" stroke="#ccc"`)
	p.Group(fmt.Sprintf(`font-size="%d"`, tickSize))
	for i, name := range names {
		x := left + 8 + float64(i/rows)*column
		y := float64(plotTop + 18 + i%rows*legendRow)
		p.Line(x, y, x+legendSample, y, inks[i].attributes(), `stroke-width="2"`)
		p.Text(x+legendSample+6, y+0.35*tickSize, name)
	}
	p.Gend()
}

// legend lists the names of the hosts that have a line, as far as there is room.
func (p *picture) legend() (names []string, inks []ink) {
	for i := range p.run.Hosts {
		if p.lines[i] != nil {
			names = append(names, fitText(p.run.Hosts[i].Name, tickSize, legendName))
			inks = append(inks, p.inks[i])
		}
	}
	if over := len(names) - legendRows*legendColumns; over > 0 {
		last := legendRows*legendColumns - 1
		names[last], inks[last] = fmt.Sprintf("and %d more", over+1), ink{line: "none"}
		names, inks = names[:last+1], inks[:last+1]
	}
	return names, inks
}
