package scenario

import (
	"math"
	"strconv"

	"timeball/internal/model"
)

// FormatSeconds prints seconds with three digits and a unit, "never" for infinity.
func FormatSeconds(seconds float64) string {
	if math.IsInf(seconds, 1) {
		return "never"
	}
	if math.IsNaN(seconds) {
		return "-"
	}
	units := []struct {
		size float64
		name string
	}{{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}, {1e-9, "ns"}}
	size := math.Abs(seconds)
	for _, unit := range units {
		if size >= unit.size*0.9995 || unit.size == 1e-9 {
			return FormatNumber(seconds/unit.size) + " " + unit.name
		}
	}
	return ""
}

// FormatNumber prints three digits, more only before the point.
func FormatNumber(value float64) string {
	switch size := math.Abs(value); {
	case math.IsInf(value, 0):
		return "never"
	case size >= 100:
		return strconv.FormatFloat(value, 'f', 0, 64)
	case size != 0 && size < 0.001:
		return strconv.FormatFloat(value, 'e', 2, 64)
	}
	return strconv.FormatFloat(value, 'g', 3, 64)
}

// stateNames lists the states of a source, as reports name them.
func stateNames() []string {
	names := make([]string, model.States)
	for i := range names {
		names[i] = model.State(i).String()
	}
	return names
}
