package simulate

import (
	"math"
	"strconv"
	"time"

	"timeball/internal/config"
)

// formatSpan prints a duration of the scenario as the file has it.
func formatSpan(d time.Duration) string { return config.FormatDuration(d) }

// formatShare prints a share as a percentage, "-" if there is none.
func formatShare(share float64) string {
	if math.IsNaN(share) {
		return "-"
	}
	return strconv.FormatFloat(share*100, 'f', 2, 64) + " %"
}
