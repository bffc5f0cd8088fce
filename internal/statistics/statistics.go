// Package statistics writes what was measured to files, a new one each day (UTC): as CSV
// with a header line, or as ntpd's loopstats, peerstats and rawstats, so that ntpviz and what
// else reads those goes on working. Offsets are reference − local.
package statistics

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// Config says what is written, and where.
type Config struct {
	Directory                         string
	Measurements, Tracking, Selection bool
	NTPD                              bool // ntpd's formats in place of CSV; selection has none
	Keep                              int  // days that files are kept; 0: for ever
}

// Writer writes. It is not safe for concurrent use, and its methods may wait for a disk.
type Writer struct {
	cfg    Config
	files  map[string]*file
	states map[model.SourceID]model.State
	last   ntptime.Instant // last update told of
	failed string          // why the last write failed, "" if it did not
}

// file is one kind of statistics, of one day.
type file struct {
	day string
	f   *os.File
	w   *bufio.Writer
}

// New makes a writer, and the folder if only that is missing.
func New(cfg Config) (*Writer, error) {
	if err := os.Mkdir(cfg.Directory, 0o755); err != nil && !os.IsExist(err) {
		return nil, fmt.Errorf("statistics.directory: %w", err)
	}
	probe, err := os.CreateTemp(cfg.Directory, ".writable-*")
	if err != nil {
		return nil, fmt.Errorf("statistics.directory: %w; let timeball's user write there", err)
	}
	probe.Close()
	os.Remove(probe.Name())
	return &Writer{cfg: cfg, files: map[string]*file{}, states: map[model.SourceID]model.State{}}, nil
}

// Close ends all files.
func (w *Writer) Close() {
	for _, f := range w.files {
		f.end()
	}
	clear(w.files)
}

// Flush hands what was written to the system; it gives why a write failed, once.
func (w *Writer) Flush() (problem string) {
	for _, f := range w.files {
		if err := f.w.Flush(); err != nil && w.failed == "" {
			w.failed = err.Error()
		}
	}
	problem, w.failed = w.failed, ""
	return problem
}

func (f *file) end() {
	_ = f.w.Flush()
	_ = f.f.Close()
}

// The columns of the CSV files. Times are seconds since 1970, t1 to t4 as in RFC 5905; raw1
// and raw4 are t1 and t4 by the free oscillator, which no correction moves.
const (
	measurementColumns = "time,source,address,t1,t2,t3,t4,raw1,raw4,offset,delay,stratum,leap,root_delay,root_dispersion,interleaved,authenticated"
	trackingColumns    = "time,state,synchronized,stratum,reference_id,source,offset,error_bound,estimated_error,frequency,frequency_error,jitter,root_delay,root_dispersion,poll_interval,steps"
	selectionColumns   = "time,source,address,state,offset,error,jitter,delay,weight,reach,reason"
)

// Measurement writes one exchange. Name and address are those of its source.
func (w *Writer) Measurement(s *model.Sample, r *model.SourceReport, local string) {
	if !w.cfg.Measurements || s.Kind != model.SampleExchange {
		return
	}
	offset := (s.T2.Sub(s.T1.Wall) + s.T3.Sub(s.T4.Wall)) / 2
	delay := s.T4.Wall.Sub(s.T1.Wall) - s.T3.Sub(s.T2)
	at := s.T4.Wall
	if w.cfg.NTPD {
		w.line("peerstats", at, "", "%s %s %04x %.9f %.9f %.9f %.9f", mjd(at), r.Address.Addr().Unmap(), peerStatus(r),
			offset.Seconds(), delay.Seconds(), s.Server.RootDispersion.Seconds(), r.Jitter.Seconds())
		w.line("rawstats", at, "", "%s %s %s %s %s %s %s %d 4 4 %d %d %d %.6f %.6f %s %d", mjd(at), r.Address.Addr().Unmap(), local,
			ntpTime(s.T1.Wall), ntpTime(s.T2), ntpTime(s.T3), ntpTime(s.T4.Wall), s.Server.Leap, s.Server.Stratum, r.Poll, s.Server.Precision,
			s.Server.RootDelay.Seconds(), s.Server.RootDispersion.Seconds(), word(s.Server.ReferenceID.Format(s.Server.Stratum)), r.Sent)
		return
	}
	w.line("measurements", at, measurementColumns, "%s,%s,%s,%s,%s,%s,%s,%s,%s,%.9f,%.9f,%d,%s,%.9f,%.9f,%t,%t", unix(at), field(r.Name), r.Address,
		unix(s.T1.Wall), unix(s.T2), unix(s.T3), unix(s.T4.Wall), unix(ntptime.Wall(s.T1.Raw)), unix(ntptime.Wall(s.T4.Raw)),
		offset.Seconds(), delay.Seconds(), s.Server.Stratum, s.Server.Leap, s.Server.RootDelay.Seconds(), s.Server.RootDispersion.Seconds(),
		s.Interleaved, s.Authenticated)
}

// Snapshot writes an update of the clock, and each change of a source's state.
func (w *Writer) Snapshot(s *model.Snapshot) {
	if w.cfg.Tracking && s.LastUpdate != w.last && s.LastUpdate != (ntptime.Instant{}) {
		w.last = s.LastUpdate
		w.tracking(s)
	}
	if !w.cfg.Selection || w.cfg.NTPD {
		return
	}
	seen := map[model.SourceID]model.State{}
	for i := range s.Sources {
		r := &s.Sources[i]
		seen[r.Source] = r.State
		if before, known := w.states[r.Source]; known && before == r.State {
			continue
		}
		w.line("selection", s.At.Wall, selectionColumns, "%s,%s,%s,%s,%.9f,%.9f,%.9f,%.9f,%.4f,%d,%s", unix(s.At.Wall), field(r.Name), address(r), r.State,
			r.Offset.Seconds(), r.Error.Seconds(), r.Jitter.Seconds(), r.Delay.Seconds(), r.Weight, r.Reach, field(r.Reason))
	}
	w.states = seen
}

func (w *Writer) tracking(s *model.Snapshot) {
	at := s.LastUpdate.Wall
	if w.cfg.NTPD {
		w.line("loopstats", at, "", "%s %.9f %.6f %.9f %.6f %d", mjd(at), s.Offset.Seconds(), float64(s.Frequency)*1e6, s.Jitter.Seconds(),
			float64(s.FrequencyError)*1e6, log2(s.PollInterval))
		return
	}
	source := ""
	for i := range s.Sources {
		if s.SystemPeer != 0 && s.Sources[i].Source == s.SystemPeer {
			source = s.Sources[i].Name
		}
	}
	w.line("tracking", at, trackingColumns, "%s,%s,%t,%d,%s,%s,%.9f,%.9f,%.9f,%.12f,%.12f,%.9f,%.9f,%.9f,%g,%d", unix(at), s.State, s.Synchronized, s.Stratum,
		field(s.ReferenceID.Format(s.Stratum)), field(source), s.Offset.Seconds(), s.ErrorBound.Seconds(), s.EstimatedError.Seconds(),
		float64(s.Frequency), float64(s.FrequencyError), s.Jitter.Seconds(), s.RootDelay.Seconds(), s.RootDispersion.Seconds(), s.PollInterval.Seconds(), s.Steps)
}

// line appends a line to the file of its day.
func (w *Writer) line(kind string, at ntptime.Wall, header, format string, args ...any) {
	f, err := w.open(kind, at, header)
	if err == nil {
		_, err = fmt.Fprintf(f.w, format+"\n", args...)
	}
	if err != nil && w.failed == "" {
		w.failed = err.Error()
	}
}

// open gives the file of a day: KIND-20261128.csv, or KIND.20261128 as ntpd names them.
func (w *Writer) open(kind string, at ntptime.Wall, header string) (*file, error) {
	day := at.Time().UTC().Format("20060102")
	if f := w.files[kind]; f != nil {
		if f.day == day {
			return f, nil
		}
		f.end()
		delete(w.files, kind)
	}
	name := filepath.Join(w.cfg.Directory, kind+"."+day)
	if !w.cfg.NTPD {
		name = filepath.Join(w.cfg.Directory, kind+"-"+day+".csv")
	}
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	f := &file{day: day, f: out, w: bufio.NewWriter(out)}
	if info, err := out.Stat(); err == nil && info.Size() == 0 && header != "" {
		fmt.Fprintln(f.w, header)
	}
	w.files[kind] = f
	w.tidy(kind)
	return f, nil
}

// tidy removes the oldest files of a kind beyond those that are kept.
func (w *Writer) tidy(kind string) {
	if w.cfg.Keep <= 0 {
		return
	}
	pattern := kind + ".????????"
	if !w.cfg.NTPD {
		pattern = kind + "-????????.csv"
	}
	found, _ := filepath.Glob(filepath.Join(w.cfg.Directory, pattern))
	slices.Sort(found)
	for len(found) > w.cfg.Keep {
		_ = os.Remove(found[0])
		found = found[1:]
	}
}

// field is a text as a field of CSV (RFC 4180 §2).
func field(text string) string {
	if strings.ContainsAny(text, ",\"\r\n") {
		return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
	}
	return text
}

// word is a text without blanks, for a line that is cut at them.
func word(text string) string {
	if text = strings.Join(strings.Fields(text), "_"); text == "" {
		return "-"
	}
	return text
}

func address(r *model.SourceReport) string {
	if !r.Address.IsValid() {
		return ""
	}
	return r.Address.String()
}

// unix is a time in seconds since 1970, to the nanosecond.
func unix(w ntptime.Wall) string {
	sign, n := "", int64(w)
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%09d", sign, n/1e9, n%1e9)
}

// ntpEpoch is 1970 in seconds since 1900 (RFC 5905 §6).
const ntpEpoch = 2208988800

// ntpTime is a time in seconds since 1900, as rawstats has it.
func ntpTime(w ntptime.Wall) string {
	n := int64(w)
	return fmt.Sprintf("%d.%09d", n/1e9+ntpEpoch, n%1e9)
}

// mjd is the modified Julian day and the seconds past its midnight.
func mjd(w ntptime.Wall) string {
	n := int64(w)
	const day = int64(24 * time.Hour)
	return fmt.Sprintf("%d %.3f", 40587+n/day, float64(n%day)/1e9)
}

// peerStatus is ntpd's peer status word (RFC 9327 §3.2): configured, reachable, and the
// place in the selection.
func peerStatus(r *model.SourceReport) uint16 {
	status := uint16(0x8000)
	if r.KeyID != 0 || r.NTS {
		status |= 0x6000
	}
	if r.Reach != 0 {
		status |= 0x1000
	}
	switch r.State {
	case model.StateSelected:
		status |= 0x0600
	case model.StateCombined:
		status |= 0x0400
	case model.StateSurvivor, model.StateOutlier:
		status |= 0x0300
	case model.StateFalseticker:
		status |= 0x0100
	}
	return status
}

func log2(d time.Duration) int {
	n := 0
	for d >= 2*time.Second {
		d, n = d/2, n+1
	}
	return n
}
