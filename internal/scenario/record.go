package scenario

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"timeball/internal/ntptime"
)

// Record is what was exchanged with one source, in the order in which replies came.
// Times are nanoseconds since the record's origin: that of the file, or, where it
// has times of day, the whole second before its first exchange.
type Record struct {
	File      string
	Exchanges []Recorded
	Truth     bool // every exchange has its true offset
}

// Recorded is one exchange: T1 and T4 by the client's clock, T2 and T3 by the server's.
type Recorded struct {
	T1, T2, T3, T4 int64
	TrueOffset     float64 // s, server − client at the middle of T1 and T4
	Stratum        uint8   // of the server; 1 where the file does not say
	RootDelay      time.Duration
	RootDispersion time.Duration
}

// Bounds of a record: beyond them it is a mistake or an attack.
const (
	maxRecordSize = 1 << 30
	maxExchanges  = 4 << 20
	maxRecordTime = int64(9e9) // s; NTP's era of 136 years, and another
)

// rowReader makes an exchange of a line, and gives the names of its source: the one that
// tells it from others first.
type rowReader func(line string) (row Recorded, names [2]string, truth bool, err error)

func readRecord(from io.Reader, source string) (*Record, error) {
	r := &Record{Truth: true}
	var read rowReader
	var sources []string
	head := ""
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<16)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line == head { // files of several days, one behind the other
			continue
		}
		if read == nil {
			columns, isHeader, err := header(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			if read = rawstats; isHeader {
				read, head = columns.row, line
				continue
			}
		}
		row, names, truth, err := read(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if !slices.Contains(sources, names[0]) && len(sources) < 8 {
			sources = append(sources, names[0])
		}
		if source != "" && !slices.Contains(names[:], source) {
			continue
		}
		if len(r.Exchanges) == maxExchanges {
			return nil, fmt.Errorf("line %d: more than %d exchanges", n, maxExchanges)
		}
		r.Exchanges, r.Truth = append(r.Exchanges, row), r.Truth && truth
	}
	switch err := lines.Err(); {
	case err != nil:
		return nil, err
	case len(r.Exchanges) == 0 && len(sources) > 0:
		return nil, fmt.Errorf("has no exchange with %s, but with %s", source, strings.Join(sources, ", "))
	case len(r.Exchanges) == 0:
		return nil, errors.New("has no exchanges; write a first line `t1,t2,t3,t4` and a line for each, or give ntpd's rawstats")
	case source == "" && len(sources) > 1:
		return nil, fmt.Errorf("has exchanges with %s; choose one with `from: %s`", strings.Join(sources, ", "), sources[0])
	}
	r.arrange()
	return r, nil
}

// timeOfDay is what no count of seconds from a start comes to: a third of a year.
const timeOfDay = int64(1e7 * 1e9)

// arrange brings the exchanges into order and their times to one origin.
func (r *Record) arrange() {
	sort.SliceStable(r.Exchanges, func(i, j int) bool { return r.Exchanges[i].T4 < r.Exchanges[j].T4 })
	first := r.Exchanges[0].T1
	for i := range r.Exchanges {
		first = min(first, r.Exchanges[i].T1)
	}
	if first >= 0 && first < timeOfDay {
		return
	}
	const second = int64(time.Second)
	origin := first - ((first%second)+second)%second
	for i := range r.Exchanges {
		x := &r.Exchanges[i]
		x.T1, x.T2, x.T3, x.T4 = x.T1-origin, x.T2-origin, x.T3-origin, x.T4-origin
	}
}

// Span is the time from the record's origin to its last exchange, in whole seconds.
func (r *Record) Span() time.Duration {
	last := time.Duration(r.Exchanges[len(r.Exchanges)-1].T4)
	return (last + time.Second - 1).Truncate(time.Second)
}

// at gives the true offset at t, along a straight line between the exchanges, and its
// slope (s/s).
func (r *Record) At(t int64) (offset, slope float64) {
	xs := r.Exchanges
	if len(xs) == 1 {
		return xs[0].TrueOffset, 0
	}
	i := sort.Search(len(xs), func(i int) bool { return xs[i].middle() >= t })
	i = min(max(i, 1), len(xs)-1)
	a, b := &xs[i-1], &xs[i]
	if span := float64(b.middle() - a.middle()); span > 0 {
		slope = (b.TrueOffset - a.TrueOffset) / span * 1e9
	}
	return a.TrueOffset + slope*float64(t-a.middle())*1e-9, slope
}

func (x *Recorded) middle() int64 { return x.T1 + (x.T4-x.T1)/2 }

// offset is RFC 5905 §8's, in seconds.
func (x *Recorded) Offset() float64 { return float64((x.T2-x.T1)+(x.T3-x.T4)) / 2 * 1e-9 }

// delay is RFC 5905 §8's.
func (x *Recorded) Delay() int64 { return (x.T4 - x.T1) - (x.T3 - x.T2) }

// recordColumns says where in a line each value stands, −1 where it does not.
type recordColumns struct {
	t                                                              [4]int
	raw1, raw4                                                     int
	truth, address, source, stratum, delay, dispersion, atLeastHas int
	oscillator                                                     rawScale
}

// rawScale lays the oscillator's readings of T1 and T4, which begin with the machine, beside
// the server's time: it begins with the first T1, and again where the machine did.
type rawScale struct {
	begun     bool
	shift     int64 // what is added to readings
	wall, raw int64 // of the last T1
}

// use puts an exchange on the oscillator's scale.
func (s *rawScale) use(x *Recorded, raw1, raw4 int64) {
	switch {
	case !s.begun:
		s.begun, s.shift = true, x.T1-raw1
	case raw1+s.shift < s.raw:
		s.shift = s.raw + x.T1 - s.wall - raw1
	}
	s.wall, s.raw = x.T1, raw1+s.shift
	x.T1, x.T4 = raw1+s.shift, raw4+s.shift
}

// header reads the line that names the columns; false if the line is no such.
func header(line string) (c recordColumns, isHeader bool, err error) {
	if !strings.Contains(line, ",") {
		return c, false, nil
	}
	names := strings.Split(strings.ToLower(strings.ReplaceAll(line, " ", "")), ",")
	find := func(names []string, wanted ...string) int {
		return slices.IndexFunc(names, func(name string) bool { return slices.Contains(wanted, name) })
	}
	missing := []string(nil)
	for i := range c.t {
		name := fmt.Sprintf("t%d", i+1)
		if c.t[i] = find(names, name); c.t[i] < 0 {
			missing = append(missing, name)
		}
		c.atLeastHas = max(c.atLeastHas, c.t[i]+1)
	}
	if missing != nil {
		return c, true, fmt.Errorf("names no column %s; the first line is to name t1, t2, t3 and t4", strings.Join(missing, ", "))
	}
	c.truth = find(names, "true_offset", "truth")
	c.address, c.source, c.raw1, c.raw4 = find(names, "address"), find(names, "source"), find(names, "raw1"), find(names, "raw4")
	c.stratum, c.delay, c.dispersion = find(names, "stratum"), find(names, "root_delay"), find(names, "root_dispersion")
	return c, true, nil
}

func (c *recordColumns) row(line string) (row Recorded, names [2]string, truth bool, err error) {
	values := strings.Split(line, ",")
	if len(values) < c.atLeastHas {
		return row, names, false, fmt.Errorf("has %d values, and t1 to t4 need %d", len(values), c.atLeastHas)
	}
	text := func(i int) string {
		if i < 0 || i >= len(values) {
			return ""
		}
		return strings.TrimSpace(values[i])
	}
	if err := row.times(text(c.t[0]), text(c.t[1]), text(c.t[2]), text(c.t[3])); err != nil {
		return row, names, false, err
	}
	if first, last := text(c.raw1), text(c.raw4); first != "" && last != "" {
		raw1, err1 := moment(first)
		raw4, err4 := moment(last)
		if err := errors.Join(err1, err4); err != nil || raw4 < raw1 {
			return row, names, false, fmt.Errorf("raw1 and raw4 %q, %q are no readings of an oscillator", first, last)
		}
		c.oscillator.use(&row, raw1, raw4)
	}
	if given := text(c.truth); given != "" {
		if row.TrueOffset, err = strconv.ParseFloat(given, 64); err != nil || !(math.Abs(row.TrueOffset) < float64(maxRecordTime)) {
			return row, names, false, fmt.Errorf("true offset %q is no number of seconds", given)
		}
		truth = true
	}
	err = row.server(text(c.stratum), text(c.delay), text(c.dispersion))
	if names = [2]string{text(c.address), text(c.source)}; names[0] == "" {
		names[0] = names[1]
	}
	return row, names, truth, err
}

// rawstats reads a line of ntpd's rawstats: day, second, source, destination, the four
// timestamps in seconds of NTP's era; later versions add leap, version, mode, stratum,
// poll, precision, root delay and dispersion.
func rawstats(line string) (row Recorded, names [2]string, truth bool, err error) {
	values := strings.Fields(line)
	if len(values) < 8 {
		return row, names, false, fmt.Errorf("has %d values where ntpd's rawstats have at least 8", len(values))
	}
	if err := row.times(values[4], values[5], values[6], values[7]); err != nil {
		return row, names, false, err
	}
	if len(values) >= 16 {
		err = row.server(values[11], values[14], values[15])
	} else {
		err = row.server("", "", "")
	}
	return row, [2]string{values[2], values[2]}, false, err
}

// times reads the four timestamps.
func (x *Recorded) times(texts ...string) error {
	var t [4]int64
	for i, text := range texts {
		value, err := moment(text)
		if err != nil {
			return fmt.Errorf("t%d: %w", i+1, err)
		}
		t[i] = value
	}
	*x = Recorded{T1: t[0], T2: t[1], T3: t[2], T4: t[3]}
	if x.T4 < x.T1 {
		return errors.New("t4 is before t1")
	}
	if x.T3 < x.T2 {
		return errors.New("t3 is before t2")
	}
	return nil
}

// server reads what the server said of its own clock; "" where the file does not say.
func (x *Recorded) server(stratum, delay, dispersion string) error {
	x.Stratum = 1
	if stratum != "" {
		value, err := strconv.ParseUint(stratum, 10, 8)
		if err != nil || value > 16 {
			return fmt.Errorf("stratum %q is no number from 0 to 16", stratum)
		}
		x.Stratum = uint8(max(value, 1))
	}
	for _, part := range []struct {
		text string
		into *time.Duration
	}{{delay, &x.RootDelay}, {dispersion, &x.RootDispersion}} {
		if part.text == "" {
			continue
		}
		value, err := strconv.ParseFloat(part.text, 64)
		if err != nil || !(value >= 0 && value < 1000) {
			return fmt.Errorf("root delay or dispersion %q is no number of seconds below 1000", part.text)
		}
		*part.into = time.Duration(value * 1e9)
	}
	return nil
}

// moment reads seconds, to the nanosecond, or a date.
func moment(text string) (int64, error) {
	if strings.Contains(text, "T") {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return 0, fmt.Errorf("%q is no date like 2026-01-01T00:00:00.000000001Z", text)
		}
		return int64(ntptime.WallOf(t)), nil
	}
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if len(fraction) > 9 {
		fraction = fraction[:9]
	}
	nanoseconds, errFraction := strconv.ParseUint(fraction+strings.Repeat("0", 9-len(fraction)), 10, 64)
	if err != nil || errFraction != nil || seconds < 0 || seconds > maxRecordTime {
		return 0, fmt.Errorf("%q is no number of seconds", text)
	}
	value := seconds*int64(time.Second) + int64(nanoseconds)
	if negative {
		value = -value
	}
	return value, nil
}
