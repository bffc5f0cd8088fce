package cli

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/control"
)

func newTracking() *cobra.Command {
	return report[control.Tracking]{
		use:     "tracking",
		short:   "The system variables: offset, frequency, error bound",
		request: control.Request{Command: control.CommandTracking},
		print:   printTracking,
	}.command()
}

func printTracking(w io.Writer, t *control.Tracking) error {
	var out table
	out.row("State", t.State)
	out.row("Source", reference(t))
	out.row("Stratum", stratum(t.Stratum))
	out.row("Leap", t.Leap)
	if t.Machine != nil {
		out.row("Machine's clock", fmt.Sprintf("%s, %s; only observed, not set", offsetWords(t.Machine.Offset), errorAtMost(t.Machine.ErrorBound)))
		out.row("What follows", "is of the time worked out and served")
	}
	out.row("Offset", formatOffset(t.Offset)+" (positive: the clock is behind)")
	out.row("Error bound", "± "+formatBound(t.ErrorBound))
	out.row("Estimated error", "± "+formatTime(t.EstimatedError))
	out.row("Frequency", fmt.Sprintf("%+.4f ppm ± %.4f ppm (positive: the oscillator is slow)", t.Frequency*1e6, t.FrequencyError*1e6))
	out.row("Slewing", fmt.Sprintf("%+.3f ppm", t.Slew*1e6))
	out.row("Jitter", formatTime(t.Jitter))
	out.row("Root delay", formatTime(t.RootDelay))
	out.row("Root dispersion", formatTime(t.RootDispersion))
	out.row("Root distance", formatTime(t.RootDelay/2+t.RootDispersion))
	out.row("Reference time", civil(t.ReferenceTime))
	out.row("Poll interval", formatInterval(t.PollInterval))
	out.row("Last update", ago(t.LastUpdateAge))
	out.row("Updates", fmt.Sprint(t.Updates))
	out.row("Steps", fmt.Sprintf("%d, %s in all, the last %s", t.Steps, formatTime(t.StepsTotal), ago(t.LastStepAge)))
	out.row("Precision", formatTime(math.Ldexp(1, t.Precision)))
	if t.TAI != 0 {
		out.row("TAI - UTC", fmt.Sprintf("%d s", t.TAI))
	}
	if t.LeapPending != 0 {
		out.row("Leap second", "at "+civil(t.LeapPending))
	}
	if t.PanicOffset != 0 {
		out.row("REFUSED", "a correction of "+formatOffset(t.PanicOffset)+" is beyond clock.panic; check the sources, then `timeball accept-correction` lets it through")
	}
	return out.print(w)
}

// reference is whom the clock follows.
func reference(t *control.Tracking) string {
	if t.Source == "" {
		if t.ReferenceID == "" {
			return "none"
		}
		return "none (reference id " + t.ReferenceID + ")"
	}
	return nameAt(t.Source, t.Address)
}

func stratum(s int) string {
	if s >= 16 {
		return "not synchronized"
	}
	return fmt.Sprint(s)
}

func ago(age *float64) string {
	if age == nil {
		return "never"
	}
	return formatAge(*age) + " ago"
}

// civil prints seconds since 1970 as civil time.
func civil(seconds float64) string {
	if seconds == 0 {
		return "never"
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC().Format("2006-01-02 15:04:05.000 UTC")
}
