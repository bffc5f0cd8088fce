package refclock

import (
	"bytes"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// maxSentence is what is read of a sentence: NMEA 0183 allows 82 bytes, receivers send
// some more.
const maxSentence = 128

// fixMemory is how long a sentence that tells of a fix, or of a date, speaks for those
// that tell of none.
const fixMemory = 10 * time.Second

// sentences makes readings of the sentences of NMEA 0183 that have a time: RMC, ZDA and
// GGA of any talker (GP, GN, GL, GA, ...). The first of an epoch counts: a receiver
// sends it first after its second, and the rest of the burst later by what was sent.
type sentences struct {
	notBefore ntptime.Wall
	epoch     ntptime.Wall // time of the last reading
	date      ntptime.Wall // midnight of the last date told
	dateAt    ntptime.Wall // by CLOCK_REALTIME, when it was told; 0: never
	fix       bool         // what RMC and GGA last said
	fixAt     ntptime.Wall // by CLOCK_REALTIME; 0: never
}

// take decodes one sentence that began at a moment of CLOCK_REALTIME. more is false
// where it has nothing to say of the time, as those of receivers' makers ($PUBX, $PGRMC).
func (s *sentences) take(fields [][]byte, at ntptime.Wall) (r Reading, why model.ReadingRefusal, more bool) {
	var clock time.Duration
	var date ntptime.Wall
	var hasDate, ok bool
	if len(fields[0]) != 5 || fields[0][0] == 'P' {
		return r, noRefusal, false
	}
	switch kind := fields[0][2:]; string(kind) {
	case "RMC": // $GPRMC,hhmmss.ss,A,lat,N,lon,E,speed,course,ddmmyy,...
		clock, date, hasDate, ok = parseRMC(fields)
		if ok {
			s.fix, s.fixAt = len(fields[2]) == 1 && fields[2][0] == 'A', at
		}
	case "GGA": // $GPGGA,hhmmss.ss,lat,N,lon,E,quality,...
		clock, ok = parseGGA(fields)
		if ok {
			s.fix, s.fixAt = fields[6][0] != '0', at
		}
	case "ZDA": // $GPZDA,hhmmss.ss,dd,mm,yyyy,zh,zm
		clock, date, hasDate, ok = parseZDA(fields)
	default:
		return r, noRefusal, false
	}
	if !ok {
		return r, s.incomplete(at), true
	}
	if s.fixAt != 0 && at.Sub(s.fixAt) < fixMemory && !s.fix {
		return r, model.ReadingNoFix, true
	}
	if hasDate {
		s.date, s.dateAt = date, at
	} else if date, ok = s.recall(clock, at); !ok {
		return r, noRefusal, false // the next RMC or ZDA tells the date
	}
	return s.read(date.Add(clock), at)
}

// incomplete says why a sentence without a time has none: receivers leave the fields
// empty until they have a fix.
func (s *sentences) incomplete(at ntptime.Wall) model.ReadingRefusal {
	s.fix, s.fixAt = false, at
	return model.ReadingNoFix
}

// recall is the date of a sentence that has only a time of day: that of the last one
// that had it, or the next one if midnight has come between.
func (s *sentences) recall(clock time.Duration, at ntptime.Wall) (ntptime.Wall, bool) {
	if s.dateAt == 0 || at.Sub(s.dateAt) > fixMemory {
		return 0, false
	}
	const day = 24 * time.Hour
	switch before := s.epoch.Sub(s.date); {
	case before > day-fixMemory && clock < fixMemory:
		return s.date.Add(day), true
	case before < fixMemory && clock > day-fixMemory:
		return s.date.Add(-day), true
	}
	return s.date, true
}

// read makes the reading of a complete time.
func (s *sentences) read(reference, at ntptime.Wall) (r Reading, why model.ReadingRefusal, more bool) {
	if reference < s.notBefore {
		return r, model.ReadingDate, true
	}
	if reference == s.epoch {
		return r, noRefusal, false // a later sentence of the same burst
	}
	s.epoch = reference
	r = Reading{Reference: reference, Realtime: at}
	r.Leap = wire.LeapNone
	return r, noRefusal, true
}

// splitSentence checks the frame and the checksum, and cuts the sentence into fields.
func splitSentence(line []byte) (fields [][]byte, ok bool) {
	line = bytes.TrimRight(line, "\r\n \x00")
	if len(line) < 9 || line[0] != '$' || len(line) > maxSentence {
		return nil, false
	}
	star := bytes.LastIndexByte(line, '*')
	if star < 0 || len(line) != star+3 {
		return nil, false // without a checksum anything may have happened to it
	}
	sum := byte(0)
	for _, c := range line[1:star] {
		sum ^= c
	}
	high, ok1 := hexDigit(line[star+1])
	low, ok2 := hexDigit(line[star+2])
	if !ok1 || !ok2 || high<<4|low != sum {
		return nil, false
	}
	fields = bytes.Split(line[1:star], []byte{','})
	return fields, len(fields[0]) > 0
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

func parseRMC(f [][]byte) (clock time.Duration, date ntptime.Wall, hasDate, ok bool) {
	if len(f) < 10 {
		return 0, 0, false, false
	}
	clock, ok = timeOfDay(f[1])
	d := f[9]
	if !ok || len(d) != 6 {
		return 0, 0, false, false
	}
	day, ok1 := digits(d[:2])
	month, ok2 := digits(d[2:4])
	year, ok3 := digits(d[4:])
	if year < 80 {
		year += 100
	}
	date, ok4 := midnight(1900+year, month, day)
	return clock, date, true, ok1 && ok2 && ok3 && ok4
}

func parseGGA(f [][]byte) (clock time.Duration, ok bool) {
	if len(f) < 7 || len(f[6]) != 1 {
		return 0, false
	}
	return timeOfDay(f[1])
}

func parseZDA(f [][]byte) (clock time.Duration, date ntptime.Wall, hasDate, ok bool) {
	if len(f) < 5 {
		return 0, 0, false, false
	}
	clock, ok = timeOfDay(f[1])
	day, ok1 := digits(f[2])
	month, ok2 := digits(f[3])
	year, ok3 := digits(f[4])
	date, ok4 := midnight(year, month, day)
	return clock, date, true, ok && ok1 && ok2 && ok3 && ok4
}

// timeOfDay decodes hhmmss or hhmmss.sss; a leap second's 60 counts as the next minute.
func timeOfDay(b []byte) (time.Duration, bool) {
	whole, part, _ := bytes.Cut(b, []byte{'.'})
	if len(whole) != 6 || len(part) > 9 {
		return 0, false
	}
	hour, ok1 := digits(whole[:2])
	minute, ok2 := digits(whole[2:4])
	second, ok3 := digits(whole[4:])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 60 {
		return 0, false
	}
	d := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second
	if len(part) == 0 {
		return d, true
	}
	fraction, ok := digits(part)
	if !ok {
		return 0, false
	}
	for range 9 - len(part) {
		fraction *= 10
	}
	return d + time.Duration(fraction), true
}

func digits(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0 && len(b) <= 9
}

// midnight is the beginning of a date of 1980 to 2199; false where it does not exist.
func midnight(year, month, day int) (ntptime.Wall, bool) {
	if year < 1980 || year > 2199 || month < 1 || month > 12 || day < 1 || day > 31 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return ntptime.WallOf(t), t.Day() == day
}
