// Package convert turns the configuration of another time daemon into one of timeball's:
// chrony.conf, ntp.conf (ntpsec's and ntp.org's), systemd's timesyncd.conf, OpenNTPD's
// ntpd.conf and ntpd-rs's ntp.toml. It takes what those daemons take, as far as running
// them has shown. A line without an equal stays as a comment in its place, with the
// reason; a line that the daemon would refuse, or take in a way that nobody means, is
// refused with its place. Whatever comes out passes config.Parse.
package convert

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"timeball/internal/config"
)

// Format says whose configuration a file is.
type Format string

// The formats.
const (
	Chrony    Format = "chrony"    // chrony.conf
	NTPsec    Format = "ntpsec"    // ntp.conf
	NTPorg    Format = "ntp.org"   // ntp.conf
	Timesyncd Format = "timesyncd" // timesyncd.conf
	OpenNTPD  Format = "openntpd"  // ntpd.conf
	NTPDRS    Format = "ntpd-rs"   // ntp.toml
)

// Formats are all of them.
var Formats = []Format{Chrony, NTPsec, NTPorg, Timesyncd, OpenNTPD, NTPDRS}

// Files is where a configuration finds the files that it names.
type Files interface {
	// Read gives a file's bytes, up to maxFile of them.
	Read(path string) ([]byte, error)
	// Glob gives the files that match a shell pattern, sorted, none if there are none.
	Glob(pattern string) []string
}

// maxLines bounds the lines of all files together, those after it are not read.
const maxLines = 5000

// maxFile bounds each file read, in bytes: no configuration comes near.
const maxFile = 1 << 20

// Options are what the one who converts decides.
type Options struct {
	Format Format // "": told from name and content
	Files  Files
	// KeyFile is what the result calls its file of keys; "": keys are not converted.
	KeyFile string
}

// NoteKind says what became of a line.
type NoteKind uint8

// The kinds of notes.
const (
	NoteNothing NoteKind = iota // nothing to do: timeball does so anyway, or needs it not
	NoteNoEqual                 // timeball has no equal
	NoteChanged                 // converted, with a difference that matters
	NoteRefused                 // the line is wrong or ambiguous
)

// Note is a line that did not become what it was.
type Note struct {
	File   string
	Line   int
	Text   string // of the line
	Reason string
	Kind   NoteKind
}

// String gives FILE:LINE: text: reason.
func (n Note) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", n.File, n.Line, shorten(n.Text, 80), n.Reason)
}

// Result is a configuration of timeball.
type Result struct {
	Format    Format
	YAML      []byte
	Keys      []byte // the file of keys, to be kept at mode 0600; nil: none
	KeyCount  int
	Converted int // lines that became something
	Notes     []Note
}

// Count is how many notes there are of a kind.
func (r *Result) Count(kind NoteKind) (count int) {
	for i := range r.Notes {
		if r.Notes[i].Kind == kind {
			count++
		}
	}
	return count
}

// ErrNeedsKeys says that the configuration signs with keys, and that nobody has said
// where to put them.
var ErrNeedsKeys = errors.New("it uses keys, and a configuration that names them needs their file: say where to write it with --keys FILE")

// ErrUnknown says that a file is none of the formats.
var ErrUnknown = errors.New("is no configuration of chrony, ntpsec, ntp.org's ntpd, systemd-timesyncd, OpenNTPD or ntpd-rs that is recognized; name it with --format")

// Convert converts a file. The error says why nothing comes out; lines that are only
// refused are notes.
func Convert(path string, o Options) (*Result, error) {
	data, err := o.Files.Read(path)
	if err != nil {
		return nil, err
	}
	if o.Format == "" {
		if o.Format = Detect(path, data); o.Format == "" {
			return nil, fmt.Errorf("%s %w", path, ErrUnknown)
		}
	}
	b := newBuilder(path, o)
	switch o.Format {
	case Chrony:
		convertChrony(b, path, data)
	case NTPsec, NTPorg:
		convertNTP(b, path, data)
	case Timesyncd:
		convertTimesyncd(b, path, data)
	case OpenNTPD:
		convertOpenNTPD(b, path, data)
	case NTPDRS:
		convertNTPDRS(b, path, data)
	default:
		return nil, fmt.Errorf("there is no format %q", o.Format)
	}
	if b.needsKeys && o.KeyFile == "" {
		return nil, fmt.Errorf("%s: %w", path, ErrNeedsKeys)
	}
	return b.result()
}

// Detect tells whose configuration a file is by its words, and by its name where the words
// do not tell; "" if neither does.
func Detect(path string, data []byte) Format {
	scores := map[Format]int{}
	for line := range bytes.Lines(data) {
		score(strings.Fields(string(line)), scores)
	}
	name := strings.ToLower(filepath.Base(path))
	switch {
	case strings.HasPrefix(name, "chrony") || strings.HasSuffix(name, ".sources"):
		scores[Chrony]++
	case name == "timesyncd.conf":
		scores[Timesyncd]++
	case name == "ntp.toml":
		scores[NTPDRS]++
	case name == "ntpd.conf" || strings.Contains(path, "openntpd"):
		scores[OpenNTPD]++
	case name == "ntp.conf":
		scores[NTPorg]++
	}
	best, most := Format(""), 0
	for _, f := range []Format{NTPDRS, Timesyncd, Chrony, OpenNTPD, NTPorg} {
		if scores[f] > most {
			best, most = f, scores[f]
		}
	}
	if best == NTPorg && (strings.Contains(path, "ntpsec") || bytes.Contains(data, []byte("ntpsec")) || scores[NTPsec] > 0) {
		return NTPsec
	}
	return best
}

// score counts a line for the formats that have such a line and whose neighbours do not.
func score(words []string, scores map[Format]int) {
	if len(words) == 0 {
		return
	}
	second := ""
	if len(words) > 1 {
		second = words[1]
	}
	switch word := strings.ToLower(words[0]); {
	case word == "[time]":
		scores[Timesyncd] += 100
	case strings.HasPrefix(word, "[[source]]"), strings.HasPrefix(word, "[[server]]"), word == "[observability]", word == "[synchronization]", word == "[source-defaults]":
		scores[NTPDRS] += 100
	case word == "listen" && second == "on", word == "query" && second == "from", word == "servers", word == "sensor",
		(word == "constraint" || word == "constraints") && second == "from":
		scores[OpenNTPD] += 3
	case word == "refclock" && strings.ToUpper(second) != second, word == "nts" && second != "":
		scores[NTPsec] += 2
		scores[NTPorg]++
	case ntpWords[word] && !chronyWords[word]:
		scores[NTPorg] += 3
	case chronyWords[word] && !ntpWords[word]:
		scores[Chrony] += 3
	case word == "server" || word == "pool" || word == "peer":
		scores[Chrony]++
		scores[NTPorg]++
		if word == "server" {
			scores[OpenNTPD]++
		}
	}
}

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(words) {
		set[word] = true
	}
	return set
}

// The words that lines of the two big formats begin with.
var (
	chronyWords = wordSet("server pool peer makestep rtcsync driftfile keyfile logdir log maxupdateskew confdir sourcedir include " +
		"ntsdumpdir leapsectz leapseclist allow deny cmdallow cmddeny local refclock hwtimestamp bindcmdaddress cmdport ratelimit " +
		"minsources maxdistance maxchange smoothtime leapsecmode maxslewrate port ntsserverkey ntsservercert stratumweight rtcfile " +
		"hwclockfile rtconutc initstepslew fallbackdrift combinelimit corrtimeratio maxdrift noclientlog clientloglimit dumpdir dumponexit")
	ntpWords = wordSet("server pool peer driftfile restrict tinker tos statsdir statistics filegen leapfile keys trustedkey requestkey " +
		"controlkey includefile disable enable discard fudge broadcast broadcastclient multicastclient manycastclient manycastserver " +
		"crypto interface nic logconfig logfile leapsmearinterval mru setvar refclock nts")
)

// check is the configuration that comes out, as timeball reads it.
func check(text []byte) error {
	if _, problems := config.Parse("converted", text); len(problems) > 0 {
		return config.Problems(problems)
	}
	return nil
}

func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
