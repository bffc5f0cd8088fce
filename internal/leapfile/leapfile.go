// Package leapfile reads leap-seconds.list, the list of leap seconds as the IERS and
// NIST publish it and as Linux distributions ship it.
package leapfile

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"timeball/internal/ntptime"
)

// ntpToUnix is 1 January 1970 in the list's seconds, which count from 1900 and, unlike
// timestamps on the wire, do not wrap.
const ntpToUnix = 2_208_988_800

// Entry is TAI−UTC in seconds from a moment on.
type Entry struct {
	At  ntptime.Wall
	TAI int
}

// List is a list of leap seconds.
type List struct {
	Updated, Expires ntptime.Wall
	Entries          []Entry // in order of time, at least one
}

// Expired reports whether the list no longer says what comes.
func (l *List) Expired(now ntptime.Wall) bool { return now >= l.Expires }

// Parse reads a list. It refuses one without an expiry date, out of order, with
// differences that are no leap seconds, or whose own hash does not fit: a truncated or
// forged list is worse than none (threats 49).
func Parse(text string) (*List, error) {
	l := &List{}
	digest := sha1.New()
	var hash string
	for number, line := range strings.Split(text, "\n") {
		if err := l.line(strings.TrimSpace(line), &hash, func(s string) { digest.Write([]byte(s)) }); err != nil {
			return nil, fmt.Errorf("line %d: %w", number+1, err)
		}
	}
	switch {
	case len(l.Entries) == 0:
		return nil, errors.New("has no leap seconds; is it a leap-seconds.list?")
	case l.Expires == 0:
		return nil, errors.New("has no expiry date (#@); is it a leap-seconds.list?")
	case hash == "":
		return nil, errors.New("has no hash (#h); get a whole copy")
	case hash != fmt.Sprintf("%x", digest.Sum(nil)):
		return nil, errors.New("does not fit its own hash; get a whole copy")
	}
	return l, nil
}

// line reads one line: #$ last update, #@ expiry, #h hash, other comments, or a row.
func (l *List) line(line string, hash *string, add func(string)) (err error) {
	switch {
	case strings.HasPrefix(line, "#$"):
		l.Updated, err = moment(line[2:], add)
	case strings.HasPrefix(line, "#@"):
		l.Expires, err = moment(line[2:], add)
	case strings.HasPrefix(line, "#h"):
		*hash, err = joinHash(line[2:])
	case line == "" || line[0] == '#':
	default:
		err = l.row(line, add)
	}
	return err
}

// moment reads seconds since 1900.
func moment(text string, add func(string)) (ntptime.Wall, error) {
	text = strings.TrimSpace(text)
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < ntpToUnix || seconds > ntpToUnix+(1<<33) {
		return 0, fmt.Errorf("%q is no number of seconds since 1900", text)
	}
	add(text)
	return ntptime.Wall((seconds - ntpToUnix) * 1_000_000_000), nil
}

// row reads "SECONDS TAI # comment".
func (l *List) row(line string, add func(string)) error {
	line, _, _ = strings.Cut(line, "#")
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return fmt.Errorf("%q is no row of seconds and TAI-UTC", line)
	}
	at, err := moment(fields[0], add)
	if err != nil {
		return err
	}
	tai, err := strconv.Atoi(fields[1])
	if err != nil || tai < 10 || tai > 200 {
		return fmt.Errorf("%q is no TAI-UTC in seconds", fields[1])
	}
	add(fields[1])
	if n := len(l.Entries); n > 0 {
		before := l.Entries[n-1]
		if step := tai - before.TAI; at <= before.At || (step != 1 && step != -1) {
			return errors.New("is not one leap second after the row before")
		}
	}
	l.Entries = append(l.Entries, Entry{at, tai})
	return nil
}

// joinHash reads five words of hexadecimal digits, whose leading zeros may be left out.
func joinHash(text string) (string, error) {
	words := strings.Fields(text)
	if len(words) != 5 {
		return "", fmt.Errorf("the hash has %d words, not 5", len(words))
	}
	joined := ""
	for _, word := range words {
		value, err := strconv.ParseUint(word, 16, 32)
		if err != nil {
			return "", fmt.Errorf("%q is no word of a hash", word)
		}
		joined += fmt.Sprintf("%08x", value)
	}
	return joined, nil
}
