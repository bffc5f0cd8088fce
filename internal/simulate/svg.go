package simulate

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	_ "gonum.org/v1/plot/vg/vgsvg" // registers the format
)

// Size of the picture, and how many columns a long series is drawn in.
const (
	pictureWidth  = 10 * vg.Inch
	pictureHeight = 5 * vg.Inch
	columns       = 1200
	mostMarks     = 24
)

// palette is that of Okabe and Ito, which readers with any colour vision can tell apart.
var palette = []color.RGBA{
	{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
	{230, 159, 0, 255}, {86, 180, 233, 255}, {0, 0, 0, 255}, {160, 160, 0, 255},
}

// WriteSVG draws the true error of each host over the first run, with the events
// marked. The vertical axis is linear near zero and logarithmic beyond, so that the
// start and the steady state can both be read. The run must have been made with
// Options.Series.
func (r *Result) WriteSVG(w io.Writer) error {
	p, err := r.picture()
	if err != nil {
		return fmt.Errorf("picture cannot be drawn: %w", err)
	}
	canvas, err := p.WriterTo(pictureWidth, pictureHeight, "svg")
	if err != nil {
		return fmt.Errorf("picture cannot be drawn: %w", err)
	}
	var drawn bytes.Buffer
	if _, err := canvas.WriteTo(&drawn); err != nil {
		return fmt.Errorf("picture cannot be drawn: %w", err)
	}
	// A viewer without the font shall take another of its kind.
	_, err = w.Write(bytes.ReplaceAll(drawn.Bytes(), []byte("Liberation Sans"), []byte("Liberation Sans,Arial,Helvetica,sans-serif")))
	return err
}

func (r *Result) picture() (*plot.Plot, error) {
	p := plot.New()
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle,
		&p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	p.Title.Text, p.Title.Padding = r.title(), vg.Points(6)
	unit := timeUnit(r.Scenario.Duration)
	p.X.Label.Text, p.Y.Label.Text = unit.name+" since the start", "clock − true time"
	p.X.Min, p.X.Max, p.X.Tick.Marker = 0, r.Scenario.Duration.Seconds()/unit.seconds, plot.TickerFunc(roundTicks)
	scale := r.scale()
	p.Y.Scale, p.Y.Tick.Marker = scale, scale
	p.Y.Min, p.Y.Max = -scale.reach, scale.reach
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs = true, -vg.Points(8), -vg.Points(4)
	if err := r.drawSettling(p, unit); err != nil {
		return nil, err
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	for i := range r.Hosts {
		if err := drawSeries(p, &r.Hosts[i], palette[i%len(palette)], unit); err != nil {
			return nil, err
		}
	}
	row := 0
	for i := range r.Hosts {
		if err := drawMarks(p, &r.Hosts[i], palette[i%len(palette)], unit, &row); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// unit is what the time axis counts in.
type unit struct {
	name    string
	seconds float64
}

// timeUnit keeps the numbers on the axis short.
func timeUnit(d time.Duration) unit {
	switch {
	case d > 72*time.Hour:
		return unit{"days", 86400}
	case d > 4*time.Hour:
		return unit{"hours", 3600}
	}
	return unit{"seconds", 1}
}

// roundTicks puts up to ten ticks at round values.
func roundTicks(low, high float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/2)))
	for _, factor := range []float64{0.2, 0.5, 1, 2} {
		if (high-low)/(step*factor) <= 10 {
			step *= factor
			break
		}
	}
	var ticks []plot.Tick
	for i := math.Ceil(low / step); i*step <= high; i++ {
		ticks = append(ticks, plot.Tick{Value: i * step, Label: strconv.FormatFloat(i*step, 'f', -1, 64)})
	}
	return ticks
}

func (r *Result) title() string {
	if r.Scenario.Description != "" {
		return r.Scenario.Description
	}
	return fmt.Sprintf("true error of each host, seed %d", r.Scenario.Seed)
}

// drawSettling greys what is left out of the statistics.
func (r *Result) drawSettling(p *plot.Plot, u unit) error {
	end := r.Scenario.Settle.Seconds() / u.seconds
	if end == 0 {
		return nil
	}
	area, err := plotter.NewPolygon(plotter.XYs{{X: 0, Y: p.Y.Min}, {X: end, Y: p.Y.Min}, {X: end, Y: p.Y.Max}, {X: 0, Y: p.Y.Max}})
	if err != nil {
		return err
	}
	area.Color, area.LineStyle.Width = color.Gray{243}, 0
	p.Add(area)
	return nil
}

// drawSeries draws a host's error: of a long series the least and the greatest in
// each column, so that no spike is lost. A clock that never errs is left out.
func drawSeries(p *plot.Plot, h *HostResult, c color.Color, u unit) error {
	series := h.Runs[0].series
	if !slices.ContainsFunc(series, func(x float64) bool { return x != 0 }) {
		return nil
	}
	points := envelope(series)
	for i := range points {
		points[i].X /= u.seconds
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = c, vg.Points(0.8)
	p.Add(line)
	p.Legend.Add(h.Name, line)
	return nil
}

// envelope thins a series to two points a column.
func envelope(series []float64) plotter.XYs {
	width := (len(series) + columns - 1) / columns
	var points plotter.XYs
	for from := 0; from < len(series); from += width {
		low, high := from, from
		for k := from; k < min(from+width, len(series)); k++ {
			if series[k] < series[low] {
				low = k
			}
			if series[k] > series[high] {
				high = k
			}
		}
		first, second := min(low, high), max(low, high)
		points = append(points, plotter.XY{X: float64(first), Y: series[first]})
		if second != first {
			points = append(points, plotter.XY{X: float64(second), Y: series[second]})
		}
	}
	return points
}

// drawMarks draws a line at each event of a host, with a few words in a row of its
// own where others would be written over.
func drawMarks(p *plot.Plot, h *HostResult, c color.Color, u unit, row *int) error {
	marks := h.Runs[0].marks
	if len(marks) > mostMarks {
		marks = marks[:mostMarks]
	}
	for _, m := range marks {
		x := float64(m.at) * 1e-9 / u.seconds
		line, err := plotter.NewLine(plotter.XYs{{X: x, Y: p.Y.Min}, {X: x, Y: p.Y.Max}})
		if err != nil {
			return err
		}
		line.Color, line.Width, line.Dashes = c, vg.Points(0.6), []vg.Length{vg.Points(3), vg.Points(2)}
		label, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: p.Y.Min}}, Labels: []string{" " + h.Name + ": " + m.what}})
		if err != nil {
			return err
		}
		label.TextStyle[0].Color = c
		label.TextStyle[0].Font.Size, label.TextStyle[0].Font.Variant = vg.Points(8), "Sans"
		label.Offset.Y = vg.Points(float64(4 + *row%8*10))
		if *row++; x > 0.8*p.X.Max {
			label.TextStyle[0].XAlign = text.XRight
		}
		p.Add(line, label)
	}
	return nil
}

// symlog is a scale that is linear below its threshold and logarithmic beyond:
// asinh(y/threshold).
type symlog struct{ threshold, reach float64 }

// scale takes the threshold from the steady state, and the reach from all there is.
func (r *Result) scale() symlog {
	s := symlog{threshold: math.Inf(1)}
	for i := range r.Hosts {
		run := &r.Hosts[i].Runs[0]
		for _, x := range run.series {
			s.reach = max(s.reach, math.Abs(x))
		}
		if e := run.Figures.RMSError; e > 0 {
			s.threshold = min(s.threshold, e)
		}
	}
	if math.IsInf(s.threshold, 1) {
		s.threshold = 1e-6
	}
	s.reach = max(s.reach, s.threshold) * 1.5
	return s
}

// Normalize implements plot.Normalizer.
func (s symlog) Normalize(low, high, x float64) float64 {
	bottom, top := math.Asinh(low/s.threshold), math.Asinh(high/s.threshold)
	return (math.Asinh(x/s.threshold) - bottom) / (top - bottom)
}

// Ticks implements plot.Ticker: zero, and the decades above the threshold.
func (s symlog) Ticks(low, high float64) []plot.Tick {
	ticks := []plot.Tick{{Value: 0, Label: "0"}}
	for decade := math.Pow(10, math.Ceil(math.Log10(s.threshold))); decade <= s.reach; decade *= 10 {
		label := formatSeconds(decade)
		ticks = append(ticks, plot.Tick{Value: decade, Label: label}, plot.Tick{Value: -decade, Label: "−" + label})
	}
	return ticks
}
