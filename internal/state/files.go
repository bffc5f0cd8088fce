package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"timeball/internal/ntptime"
)

// maxDrift bounds a believable frequency: MAXFREQ of RFC 5905 §11.3, 500 ppm.
const maxDrift = 500.0

// Drift is what is known of the oscillator: the correction of its frequency that the
// clock had, and the standard deviation of that.
type Drift struct {
	Frequency ntptime.Frequency // within ±500 ppm
	Error     ntptime.Frequency // 0 to 500 ppm
	Written   ntptime.Wall      // when, by the clock disciplined
}

// ReadDrift reads a drift file. Any error means: start from frequency 0 with nothing
// known; fs.ErrNotExist is the ordinary first start, others are worth one warning.
func ReadDrift(path string) (Drift, error) {
	fields, err := read(path)
	if err != nil {
		return Drift{}, err
	}
	frequency, err1 := number(fields, "frequency_ppm", -maxDrift, maxDrift)
	deviation, err2 := number(fields, "error_ppm", 0, maxDrift)
	written, err3 := moment(fields, "written")
	if err := errors.Join(err1, err2, err3); err != nil {
		return Drift{}, fmt.Errorf("%s: %w; ignored", path, oneLine(err))
	}
	return Drift{
		Frequency: ntptime.Frequency(frequency) * ntptime.PPM,
		Error:     ntptime.Frequency(deviation) * ntptime.PPM,
		Written:   written,
	}, nil
}

// WriteDrift replaces a drift file. A value that ReadDrift would refuse is not written.
func WriteDrift(path string, d Drift) error {
	if f, e := d.Frequency.PPM(), d.Error.PPM(); !(f >= -maxDrift && f <= maxDrift && e >= 0 && e <= maxDrift) {
		return fmt.Errorf("frequency %v ± %v is not within 500 ppm; %s left as it was", d.Frequency, d.Error, path)
	}
	return write(path, "correction of the oscillator's frequency; positive: it is too slow", []field{
		{"frequency_ppm", ppm(d.Frequency)},
		{"error_ppm", ppm(d.Error)},
		{"written", d.Written.Time().Format(time.RFC3339)},
	})
}

// Gate is the panic gate: whether the one correction of any size that a boot of the
// machine allows has been made. It outlasts the process, so that a supervisor's
// restart opens nothing (RFC 8633 §5.2, threats 9).
type Gate struct {
	Boot string // boot id of the kernel
	Used bool
}

// ReadGate says whether the gate stands open in this boot: there is no file, or one
// of another boot, or one not used. A file that cannot be believed keeps it shut, with
// the error as the warning: it may be there because somebody wants it open.
func ReadGate(path, boot string) (open bool, warning error) {
	fields, err := read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("%w; no correction beyond the panic limit this time", err)
	}
	used, err := strconv.ParseBool(fields["used"])
	if err != nil || fields["boot"] == "" {
		return false, fmt.Errorf("%s: \"boot\" or \"used\" is missing or wrong; no correction beyond the panic limit this time", path)
	}
	return fields["boot"] != boot || !used, nil
}

// WriteGate records the gate.
func WriteGate(path string, g Gate) error {
	return write(path, "panic gate: the one correction of any size in this boot", []field{
		{"boot", g.Boot},
		{"used", strconv.FormatBool(g.Used)},
	})
}

// bootIDFile is the kernel's random number of this boot.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// BootID returns the kernel's name for this boot of the machine.
func BootID() (string, error) { return bootID(bootIDFile) }

func bootID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("which boot this is: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" || strings.ContainsAny(id, "\n:") {
		return "", fmt.Errorf("which boot this is: %s holds %q", path, id)
	}
	return id, nil
}

// Believable moments: none before timeball was written, none beyond what an
// ntptime.Wall holds.
var (
	earliest = ntptime.WallOf(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	latest   = ntptime.LatestPivot // a later one, kept, would put every right server into the next era
)

// ReadTime returns the last known time: no true moment is earlier, whatever a clock
// without a battery shows at boot. On any error it is the date of this program.
func ReadTime(path string) (ntptime.Wall, error) {
	fields, err := read(path)
	if err != nil {
		return earliest, err
	}
	w, err := moment(fields, "time")
	if err != nil {
		return earliest, fmt.Errorf("%s: %w; ignored", path, err)
	}
	return w, nil
}

// WriteTime records the last known time, which the caller knows to be right.
func WriteTime(path string, w ntptime.Wall) error {
	if w < earliest || w > latest {
		return fmt.Errorf("%v is no believable time; %s left as it was", w.Time(), path)
	}
	return write(path, "last known time", []field{{"time", w.Time().Format(time.RFC3339)}})
}

// moment reads an RFC 3339 time within the believable ones.
func moment(fields map[string]string, key string) (ntptime.Wall, error) {
	t, err := time.Parse(time.RFC3339, fields[key])
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a time as 2026-01-02T03:04:05Z", key, fields[key])
	}
	if t.Before(earliest.Time()) || t.After(latest.Time()) {
		return 0, fmt.Errorf("%s: %s is not believable", key, fields[key])
	}
	return ntptime.WallOf(t), nil
}

func ppm(f ntptime.Frequency) string { return strconv.FormatFloat(f.PPM(), 'f', 6, 64) }

// oneLine joins several errors with semicolons: a warning is one line.
func oneLine(err error) error {
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// WriteLasting records the lasting frequency correction in force, before a slew that only
// the daemon ends; within ±500 ppm.
func WriteLasting(path string, f ntptime.Frequency) error {
	if p := f.PPM(); !(p >= -maxDrift && p <= maxDrift) {
		return fmt.Errorf("frequency %v is not within 500 ppm; %s left as it was", f, path)
	}
	return write(path, "lasting correction of the frequency, to go back to after a slew", []field{{"frequency_ppm", ppm(f)}})
}

// ReadLasting reads what WriteLasting has recorded. Any error means: not known.
func ReadLasting(path string) (ntptime.Frequency, error) {
	fields, err := read(path)
	if err != nil {
		return 0, err
	}
	f, err := number(fields, "frequency_ppm", -maxDrift, maxDrift)
	if err != nil {
		return 0, fmt.Errorf("%s: %w; ignored", path, err)
	}
	return ntptime.Frequency(f) * ntptime.PPM, nil
}
