package simulate

import (
	"fmt"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
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
	p := plot.New()
	p.Title.Text = r.title()
	p.X.Label.Text, p.Y.Label.Text = "time since the start (s)", "clock − true time"
	p.X.Min, p.X.Max = 0, r.Scenario.Duration.Seconds()
	scale := r.scale()
	p.Y.Scale, p.Y.Tick.Marker = scale, scale
	p.Y.Min, p.Y.Max = -scale.reach, scale.reach
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs = true, -vg.Points(8), -vg.Points(4)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	if err := r.drawSettling(p); err != nil {
		return err
	}
	for i := range r.Hosts {
		if err := drawSeries(p, &r.Hosts[i], palette[i%len(palette)]); err != nil {
			return err
		}
	}
	for i := range r.Hosts {
		if err := drawMarks(p, &r.Hosts[i], palette[i%len(palette)]); err != nil {
			return err
		}
	}
	canvas, err := p.WriterTo(pictureWidth, pictureHeight, "svg")
	if err != nil {
		return fmt.Errorf("picture cannot be drawn: %w", err)
	}
	_, err = canvas.WriteTo(w)
	return err
}

func (r *Result) title() string {
	if r.Scenario.Description != "" {
		return r.Scenario.Description
	}
	return fmt.Sprintf("true error of each host, seed %d", r.Scenario.Seed)
}

// drawSettling greys what is left out of the statistics.
func (r *Result) drawSettling(p *plot.Plot) error {
	end := r.Scenario.Settle.Seconds()
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
// each column, so that no spike is lost.
func drawSeries(p *plot.Plot, h *HostResult, c color.Color) error {
	series := h.Runs[0].series
	if len(series) == 0 {
		return nil
	}
	line, err := plotter.NewLine(envelope(series))
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

// drawMarks draws a line at each event of a host, with a word at its top.
func drawMarks(p *plot.Plot, h *HostResult, c color.Color) error {
	marks := h.Runs[0].marks
	if len(marks) > mostMarks {
		marks = marks[:mostMarks]
	}
	for i, m := range marks {
		x := float64(m.at) * 1e-9
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
		label.TextStyle[0].Font.Size = vg.Points(8)
		label.Offset.Y = vg.Points(float64(4 + i%6*10))
		if x > 0.8*p.X.Max {
			label.TextStyle[0].XAlign = draw.XRight
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
