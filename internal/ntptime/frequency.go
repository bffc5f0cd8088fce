package ntptime

import (
	"fmt"
	"time"
)

// Frequency is a relative frequency in seconds per second (1e-6 = 1 ppm).
// Positive means that the corrected clock runs faster than the raw oscillator.
type Frequency float64

// PPM is one part per million.
const PPM Frequency = 1e-6

// PPM returns the frequency in parts per million.
func (f Frequency) PPM() float64 { return float64(f) * 1e6 }

// Over returns what f gains in d.
func (f Frequency) Over(d time.Duration) time.Duration {
	return time.Duration(float64(f) * float64(d))
}

// String prints parts per million with three decimals.
func (f Frequency) String() string { return fmt.Sprintf("%+.3fppm", f.PPM()) }
