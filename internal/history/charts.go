package history

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"timeball/internal/model"
)

// path writes a line through values, with a gap where the points are further apart than
// one interval, or a value is none.
type path struct {
	c    *canvas
	text strings.Builder
	last float64 // age of the point before; < 0: none
}

func (c *canvas) path() *path { return &path{c: c, last: -1} }

func (p *path) add(age, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		p.last = -1
		return
	}
	verb := "L"
	if p.last < 0 || p.last-age > p.c.view.gap() {
		verb = "M"
	}
	fmt.Fprintf(&p.text, "%s%.1f %.1f", verb, p.c.x(age), p.c.y(value))
	if verb == "M" {
		p.text.WriteString("h0") // a point alone is a dot
	}
	p.last = age
}

func (p *path) draw(class string) {
	if p.text.Len() > 0 {
		p.c.Path(p.text.String(), `class="`+class+`"`)
	}
}

// thin leaves so many points that each has a column of its own: of several the one that is
// largest by size.
func thin[T any](points []T, age, size func(*T) float64, whole float64, columns int) (kept []*T) {
	last := -1
	for i := range points {
		p := &points[i]
		column := int(age(p) / whole * float64(columns))
		if column == last && len(kept) > 0 {
			if size(p) > size(kept[len(kept)-1]) {
				kept[len(kept)-1] = p
			}
			continue
		}
		kept, last = append(kept, p), column
	}
	return kept
}

func (v *View) thinned(size func(*Point) float64) []*Point {
	return thin(v.Points, func(p *Point) float64 { return p.Age }, size, v.whole(), columns)
}

func boundOf(p *Point) float64 {
	if p.ErrorBound == nil {
		return math.NaN()
	}
	return *p.ErrorBound
}

// offsets draws the offset on the band of the error bound, which lies around zero: the
// clock is nowhere else than that far from true time.
func (v *View) offsets() string {
	points := v.thinned(func(p *Point) float64 { return math.Abs(p.Offset) })
	var sizes []float64
	for _, p := range points {
		sizes = append(sizes, math.Abs(p.Offset))
		if b := boundOf(p); !math.IsNaN(b) {
			sizes = append(sizes, b)
		}
	}
	reach := max(usual(sizes), 1e-9) * 1.05
	c := v.canvas(-reach, reach, plotHeight, "offset and error bound over the last "+v.Span)
	for begin := 0; begin < len(points); {
		end := begin
		for end < len(points) && !math.IsNaN(boundOf(points[end])) && (end == begin || points[end-1].Age-points[end].Age <= v.gap()) {
			end++
		}
		c.band(points[begin:end])
		begin = max(end, begin+1)
	}
	c.valueAxis(timeLabel)
	line := c.path()
	for _, p := range points {
		line.add(p.Age, p.Offset)
	}
	line.draw("main")
	return c.finish()
}

// band fills what lies within the bound of points that follow each other.
func (c *canvas) band(points []*Point) {
	if len(points) < 2 {
		return
	}
	var text strings.Builder
	for i, p := range points {
		verb := "L"
		if i == 0 {
			verb = "M"
		}
		fmt.Fprintf(&text, "%s%.1f %.1f", verb, c.x(p.Age), c.y(boundOf(p)))
	}
	for i := len(points) - 1; i >= 0; i-- {
		fmt.Fprintf(&text, "L%.1f %.1f", c.x(points[i].Age), c.y(-boundOf(points[i])))
	}
	c.Path(text.String()+"Z", `class="band"`)
}

// line draws one value; "" where it was zero throughout.
func (v *View) line(value func(*Point) float64, label func(float64) string) string {
	points := v.thinned(value)
	low, high := math.Inf(1), math.Inf(-1)
	var sizes []float64
	for _, p := range points {
		low, high = min(low, value(p)), max(high, value(p))
		sizes = append(sizes, math.Abs(value(p)))
	}
	if len(points) == 0 || low == 0 && high == 0 {
		return ""
	}
	if low >= 0 && label(1) == timeLabel(1) {
		low, high = 0, max(usual(sizes), 1e-12)
	}
	margin := max((high-low)*0.06, math.Abs(high)*1e-4, 1e-12)
	if low != 0 {
		low -= margin
	}
	c := v.canvas(low, high+margin, plotHeight*0.75, "over the last "+v.Span)
	c.valueAxis(label)
	line := c.path()
	for _, p := range points {
		line.add(p.Age, value(p))
	}
	line.draw("main")
	return c.finish()
}

// sourceOffsets draws the offsets of the sources most in use, and says who is who.
func (v *View) sourceOffsets() (title, picture string) {
	sources := slices.DeleteFunc(v.byUse(), func(s Source) bool {
		return !slices.ContainsFunc(s.Points, func(p SourcePoint) bool { return p.Offset != nil })
	})
	var sizes []float64
	for i := range sources {
		for j := range sources[i].Points {
			if o := sources[i].Points[j].Offset; o != nil {
				sizes = append(sizes, math.Abs(*o))
			}
		}
	}
	if len(sizes) == 0 {
		return "", ""
	}
	title = "Offset of each source"
	if len(sources) > mostLines {
		title = fmt.Sprintf("Offset of the %d sources most in use", mostLines)
		sources = sources[:mostLines]
	}
	reach := max(usual(sizes), 1e-9) * 1.05
	rows := (len(sources) + 1) / 2
	c := v.canvas(-reach, reach, plotHeight, "offset of each source over the last "+v.Span)
	c.valueAxis(timeLabel)
	wide := columns
	if len(sources) > 4 {
		wide = columns / 2
	}
	for i := range sources {
		line := c.path()
		for _, p := range thin(sources[i].Points, func(p *SourcePoint) float64 { return p.Age }, sizeOf, v.whole(), wide) {
			value := math.NaN()
			if p.Offset != nil {
				value = *p.Offset
			}
			line.add(p.Age, value)
		}
		line.draw(lineClass(i))
	}
	picture = c.finish()
	return title, c.legend(picture, sources, rows)
}

func sizeOf(p *SourcePoint) float64 {
	if p.Offset == nil {
		return -1
	}
	return math.Abs(*p.Offset)
}

func lineClass(i int) string {
	class := fmt.Sprintf("l s%d", i%sourceLines)
	if dash := i / sourceLines; dash > 0 {
		class += fmt.Sprintf(" d%d", dash)
	}
	return class
}

// legend makes a chart taller by rows of names below it.
func (c *canvas) legend(picture string, sources []Source, rows int) string {
	total := plotTop + c.height + axisHeight
	grown := strings.Replace(picture, fmt.Sprintf(`viewBox="0 0 %d %.0f"`, chartWidth, total),
		fmt.Sprintf(`viewBox="0 0 %d %.0f"`, chartWidth, total+float64(rows*16)), 1)
	var names strings.Builder
	for i := range sources {
		x, y := 8+float64(i%2)*(chartWidth/2), total+float64(i/2*16)+8
		fmt.Fprintf(&names, `<path d="M%.0f %.0fh22" class="%s"/><text x="%.0f" y="%.0f">%s</text>`, x, y, lineClass(i), x+28, y+4, c.view.short(&sources[i], 28))
	}
	return strings.Replace(grown, "</svg>", names.String()+"</svg>", 1)
}

// gap is how far apart two points are that no line joins.
func (v *View) gap() float64 { return 2.5 * max(v.Interval, v.whole()/(columns/2)) }

// short is a source's name, or its address where several have the name, cut to a length.
func (v *View) short(s *Source, length int) string {
	name := s.Name
	if host, found := strings.CutSuffix(s.Address, ":123"); found && slices.ContainsFunc(v.Sources, func(o Source) bool { return o.Name == s.Name && o.Address != s.Address }) {
		name = strings.Trim(host, "[]")
	}
	if runes := []rune(name); len(runes) > length {
		name = string(runes[:length/2-1]) + "…" + string(runes[len(runes)-length/2:])
	}
	return html.EscapeString(name)
}

// squeezed makes a name that may be wider than the room left of the plot as wide as that,
// whatever the viewer's font.
func squeezed(name string) string {
	const fits = 9 // characters of 9 pixels in a wide font
	if utf8.RuneCountInString(html.UnescapeString(name)) <= fits {
		return ""
	}
	return fmt.Sprintf(` textLength="%d" lengthAdjust="spacingAndGlyphs"`, plotLeft-6)
}

// byUse are the sources, those longest in use first.
func (v *View) byUse() []Source {
	use := func(s *Source) (sum int) {
		for i := range s.Points {
			sum += int(stateOf(s.Points[i].State))
		}
		return sum
	}
	sources := slices.Clone(v.Sources)
	slices.SortStableFunc(sources, func(a, b Source) int { return cmp.Compare(use(&b), use(&a)) })
	return sources
}

// stateClasses colour the states.
var stateClasses = map[string]string{
	model.StateSelected.String(): "good", model.StateCombined.String(): "used", model.StateSurvivor.String(): "near",
	model.StateOutlier.String(): "warn", model.StateDistant.String(): "warn", model.StateExcluded.String(): "none",
	model.StateFalseticker.String(): "bad", model.StateUnsynchronized.String(): "bad", model.StateUnreachable.String(): "bad",
	model.StateWaiting.String(): "none",
}

// timeline draws a row a source, in the colours of its states.
func (v *View) timeline() string {
	if len(v.Sources) == 0 {
		return ""
	}
	row := float64(rowHeight)
	if len(v.Sources) > namedRows {
		row = lowHeight
	}
	c := v.canvas(0, 1, row*float64(len(v.Sources)), "the state of each source over the last "+v.Span)
	for i := range v.Sources {
		s := &v.Sources[i]
		y := plotTop + float64(i)*row
		for begin := 0; begin < len(s.Points); {
			end := begin + 1
			for end < len(s.Points) && stateClasses[s.Points[end].State] == stateClasses[s.Points[begin].State] && s.Points[end-1].Age-s.Points[end].Age < 1.5*v.Interval {
				end++
			}
			from, to := c.x(s.Points[begin].Age+v.Interval/2), c.x(s.Points[end-1].Age-v.Interval/2)
			c.Rect(from, y+1, max(to-from, 0.8), row-2, `class="`+stateClasses[s.Points[begin].State]+`"`)
			begin = end
		}
		if row == rowHeight {
			fmt.Fprintf(&c.drawn, `<text x="%d" y="%.1f" text-anchor="end" style="font-size:9px"%s>%s</text>`, plotLeft-4, y+10.5, squeezed(v.short(s, 13)), v.short(s, 13))
		}
	}
	return c.finish()
}

// load draws what the server was asked and what it answered, per second.
func (v *View) load() string {
	most := 0.0
	for i := range v.Points {
		most = max(most, float64(v.Points[i].Requests)/v.Interval)
	}
	if most == 0 {
		return ""
	}
	c := v.canvas(0, most*1.05, plotHeight*0.75, "requests per second over the last "+v.Span)
	c.valueAxis(plainLabel)
	for _, series := range []struct {
		class string
		value func(*Point) float64
	}{
		{"main", func(p *Point) float64 { return float64(p.Requests) / v.Interval }},
		{"second", func(p *Point) float64 { return float64(p.Answered) / v.Interval }},
	} {
		line := c.path()
		for _, p := range v.thinned(series.value) {
			line.add(p.Age, series.value(p))
		}
		line.draw(series.class)
	}
	return c.finish()
}
