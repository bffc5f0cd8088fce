package simulate

import (
	"math"
	"testing"

	"timeball/internal/scenario"
)

func TestSecondsHaveTheUnitsOfTheReports(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "0 ns", 5e-9: "5 ns", -30e-6: "-30 µs", 0.0123: "12.3 ms", 7: "7 s", math.Inf(1): "never", 999.7e-9: "1 µs",
	} {
		if got := scenario.FormatSeconds(seconds); got != want {
			t.Errorf("%g: got %q, want %q", seconds, got, want)
		}
	}
	if got := scenario.FormatSeconds(math.NaN()); got != "-" {
		t.Errorf("NaN: got %q, want -", got)
	}
}
