package scenario

import (
	"math"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"

	"timeball/internal/config"
	"timeball/internal/ntptime"
)

// Bounds of what a scenario may hold: beyond them it is a mistake or an attack.
const (
	maxDuration = 100 * 365 * 24 * time.Hour
	maxHosts    = 1000
	maxAliases  = 256
)

// reader reads a scenario as package config does a configuration.
type reader struct{ *config.Reader }

// field is one key of a mapping and what reads its value.
type field struct {
	name string
	read func(n *yaml.Node, path string)
}

// mapping reads a mapping whose keys are those of the table.
func (r *reader) mapping(n *yaml.Node, path string, fields []field) {
	r.Pairs(n, path, "{"+fields[0].name+": ...}", func(key, value *yaml.Node, path string) {
		for _, f := range fields {
			if f.name == key.Value {
				f.read(value, path)
				return
			}
		}
		names := make([]string, len(fields))
		for i := range fields {
			names[i] = fields[i].name
		}
		r.Fail(key, path, "is no key of a scenario here; %s", config.Suggest(key.Value, names))
	})
}

// each reads one entry of a list of two.
func (r *reader) each(n *yaml.Node, path string, read func(*yaml.Node, string)) {
	if n, ok := r.Follow(n, path); ok {
		read(n, path)
	}
}

// duration reads a duration from low to high.
func (r *reader) duration(into *time.Duration, low, high time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.Text(n, path, "a duration", "64s")
		if !ok {
			return
		}
		value, err := config.ParseDuration(text)
		switch {
		case err != nil:
			r.Fail(n, path, "%q %v", text, err)
		case value < low || value > high:
			r.Fail(n, path, "%s is out of range; write a duration from %s to %s", text,
				config.FormatDuration(low), config.FormatDuration(high))
		default:
			*into = value
		}
	}
}

// frequency reads a frequency of up to limit either way.
func (r *reader) frequency(into *ntptime.Frequency, limit float64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.Text(n, path, "a frequency", "12ppm")
		if !ok {
			return
		}
		value, err := config.ParseFrequency(text)
		switch {
		case err != nil:
			r.Fail(n, path, "%q %v", text, err)
		case math.Abs(float64(value)) > limit:
			r.Fail(n, path, "%s is out of range; write a frequency from %g to %g ppm", text, -limit*1e6, limit*1e6)
		default:
			*into = ntptime.Frequency(value)
		}
	}
}

// number reads a number from low to high.
func (r *reader) number(into *float64, low, high float64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.Text(n, path, "a number", "0.5")
		if !ok {
			return
		}
		value, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || math.IsNaN(value):
			r.Fail(n, path, "%q is not a number; write one from %g to %g", text, low, high)
		case value < low || value > high:
			r.Fail(n, path, "%s is out of range; write a number from %g to %g", text, low, high)
		default:
			*into = value
		}
	}
}

// integer reads a whole number from low to high.
func (r *reader) integer(low, high int64, set func(int64)) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if value, ok := r.Integer(n, path, low, high); ok {
			set(value)
		}
	}
}

// words reads a text into what it is given.
func (r *reader) words(into *string, wants, example string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if text, ok := r.Text(n, path, wants, example); ok {
			*into = text
		}
	}
}

// wall reads a moment of UTC.
func (r *reader) wall(into *ntptime.Wall) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.Text(n, path, "a date and time", "2036-02-07T06:00:00Z")
		if !ok {
			return
		}
		moment, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || moment.Year() < 1970 || moment.Year() > 2150 {
			r.Fail(n, path, "%q is not a date and time from 1970 to 2150; write it like 2036-02-07T06:00:00Z", text)
			return
		}
		*into = ntptime.WallOf(moment)
	}
}
