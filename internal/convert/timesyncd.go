package convert

import (
	"bytes"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"timeball/internal/config"
)

// timesyncd is the state of a conversion of timesyncd.conf.
type timesyncd struct {
	*builder
	servers, fallback []server
	compiledIn        []server // the fallback that the file tells of as compiled in
	fallbackGiven     bool
	polls             mapping
	names             map[string]bool
}

// server is a word of NTP= with the line that it stands in.
type server struct {
	host string
	at   line
}

// convertTimesyncd converts timesyncd.conf and its drop-ins as systemd 252 reads them: a
// list grows until an empty one begins it anew, and there is no comment behind a value.
func convertTimesyncd(b *builder, path string, data []byte) {
	t := &timesyncd{builder: b, names: map[string]bool{}}
	t.file(path, data)
	folders := []string{path + ".d"}
	if folder, found := strings.CutPrefix(path, "/etc/systemd/"); found { // a file's name counts once, in this order (timesyncd.conf(5))
		folders = append(folders, "/run/systemd/"+folder+".d", "/usr/local/lib/systemd/"+folder+".d", "/usr/lib/systemd/"+folder+".d", "/lib/systemd/"+folder+".d")
	}
	for _, file := range byBaseName(b.o.Files, folders, "*.conf") {
		if more, err := b.o.Files.Read(file); err == nil {
			t.file(file, more)
		}
	}
	if !t.fallbackGiven {
		t.fallback = t.compiledIn
	}
	for _, s := range t.servers {
		t.behind(func() { t.add(s, false) })
	}
	for _, s := range t.fallback {
		t.behind(func() { t.add(s, true) })
	}
}

// file reads one file.
func (t *timesyncd) file(path string, data []byte) {
	section, nr := "", 0
	begun := "" // of a line that goes on in the next, after a backslash (systemd.syntax(7))
	for row := range bytes.Lines(data) {
		nr++
		text := strings.TrimSpace(string(row))
		if begun != "" && strings.HasPrefix(text, "#") || begun != "" && strings.HasPrefix(text, ";") {
			continue
		}
		text, begun = begun+text, ""
		if more, found := strings.CutSuffix(text, `\`); found && !strings.HasPrefix(text, "#") {
			begun = more + " "
			continue
		}
		if hosts, found := strings.CutPrefix(text, "#FallbackNTP="); found {
			t.compiledIn = words(hosts, line{path, nr, text})
		}
		if text == "" || strings.ContainsAny(text[:1], "#;") {
			continue
		}
		l := line{path, nr, text}
		if strings.HasPrefix(text, "[") {
			section = text
			continue
		}
		key, value, found := strings.Cut(text, "=")
		switch {
		case section != "[Time]":
			t.note(l, NoteRefused, "it stands outside of [Time], so timesyncd ignores it")
		case !found:
			t.note(l, NoteRefused, "it is no KEY=VALUE, so timesyncd ignores it")
		default:
			t.setting(l, strings.TrimSpace(key), strings.TrimSpace(value))
		}
	}
}

func words(text string, at line) (list []server) {
	for _, word := range strings.Fields(text) {
		list = append(list, server{word, at})
	}
	return list
}

// setting takes one KEY=VALUE.
func (t *timesyncd) setting(l line, key, value string) {
	switch key {
	case "NTP", "Servers", "FallbackNTP":
		if strings.ContainsAny(value, "#;") {
			t.note(l, NoteRefused, "timesyncd has no comments behind a value: the words of this one are servers for it")
			return
		}
		list := &t.servers
		if key == "FallbackNTP" {
			list, t.fallbackGiven = &t.fallback, true
		}
		if value == "" {
			*list = nil
			return
		}
		*list = append(*list, words(value, l)...)
	case "RootDistanceMaxSec":
		if value == "infinity" {
			value = "1w"
		}
		if d, ok := t.span(l, value); ok {
			t.maxDistance(l, d.Seconds())
		}
	case "PollIntervalMinSec", "PollIntervalMaxSec":
		d, ok := t.span(l, value)
		if !ok {
			return
		}
		t.poll(l, key, d)
	case "ConnectionRetrySec":
		t.note(l, NoteNothing, "a network that comes up is used within seconds")
	case "SaveIntervalSec":
		t.note(l, NoteNothing, "the time is saved as the drift is")
	default:
		t.note(l, NoteRefused, "timesyncd has no %q, so it ignores the line", shorten(key, 30))
	}
}

// poll takes a bound of the polls, as the nearest power of two; below 16 s timesyncd keeps
// its own.
func (t *timesyncd) poll(l line, key string, d time.Duration) {
	if key == "PollIntervalMinSec" && d < 16*time.Second {
		t.note(l, NoteRefused, "below 16 s timesyncd keeps its default of 32 s")
		return
	}
	exponent := min(max(int(math.Round(math.Log2(max(d.Seconds(), 1)))), 4), int(config.MaxPoll))
	if within := time.Duration(1<<exponent) * time.Second; within != d {
		t.note(l, NoteChanged, "polls are powers of two: it is %s", within)
	}
	t.polls.put(map[string]string{"PollIntervalMinSec": "min_poll", "PollIntervalMaxSec": "max_poll"}[key], strconv.Itoa(exponent))
	t.out.Converted++
}

// add writes a server.
func (t *timesyncd) add(s server, fallback bool) {
	name := strings.ToLower(s.host)
	if t.names[name] {
		t.note(line{s.at.file, s.at.nr, s.host}, NoteChanged, "it is given twice")
		return
	}
	m := append(mapping{"server: " + quote(s.host)}, t.polls...)
	if fallback {
		m.add("fallback", "true")
	}
	if t.entry(line{s.at.file, s.at.nr, s.host}, "sources", m.String()) {
		t.names[name] = true
	}
}

// spanPart is a number with a unit of systemd.time(7).
var spanPart = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|seconds|second|sec|s|minutes|minute|min|m|hours|hour|hr|h|days|day|d|weeks|week|w|)`)

var spanUnits = map[string]time.Duration{
	"": time.Second, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute, "h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour, "w": 168 * time.Hour, "week": 168 * time.Hour, "weeks": 168 * time.Hour,
}

// span reads a time span of systemd.time(7); a number alone is seconds.
func (t *timesyncd) span(l line, text string) (sum time.Duration, ok bool) {
	rest := text
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		part := spanPart.FindStringSubmatch(rest)
		if part == nil {
			t.note(l, NoteRefused, "%q is not a time span", shorten(text, 40))
			return 0, false
		}
		number, _ := strconv.ParseFloat(part[1], 64)
		sum += time.Duration(min(number, 1e6) * float64(spanUnits[part[2]]))
		rest = rest[len(part[0]):]
	}
	if sum <= 0 {
		t.note(l, NoteRefused, "%q is not a time span above 0", shorten(text, 40))
		return 0, false
	}
	return sum, true
}
