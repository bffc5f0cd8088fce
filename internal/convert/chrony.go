package convert

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"timeball/internal/config"
)

// chrony is the state of a conversion of chrony.conf.
type chrony struct {
	*builder
	depth    int
	count    int // lines read
	access   accessTable
	allows   bool                // somebody is allowed, so there is a server
	port     string              // "": the usual one
	binds    []string            // bindaddress
	names    map[string]bool     // sources
	trusted  map[string][]string // files of ntstrustedcerts, by set
	ownOnly  bool                // nosystemcert
	auth     string              // authselectmode
	policy   bool                // its options have been told of
	steps    bool                // makestep was given
	slews    bool                // leapsecmode slew
	smooth   bool                // smoothtime
	clocks   int                 // refclock lines so far
	kinds    []string            // of statistics
	ntsFiles mapping
	rate     struct{ interval, burst, leak int } // ratelimit: what later lines do not say stays
}

// maxDepth is how deep files may name each other, as in chronyd.
const maxDepth = 10

// convertChrony converts chrony.conf as chronyd 4.3 to 4.6 read it: no comment behind a
// directive, no quotes, words in any case.
func convertChrony(b *builder, path string, data []byte) {
	c := &chrony{builder: b, access: accessTable{}, names: map[string]bool{}, trusted: map[string][]string{}, auth: "mix"}
	c.rate.interval, c.rate.burst, c.rate.leak = 3, 8, 2 // chronyd's own defaults
	all, closed := c.lines(path, data), false
	for _, l := range all { // what other lines rest on
		switch words := strings.Fields(strings.ToLower(l.text)); words[0] {
		case "allow", "broadcast": // both open the port; a broadcast alone answers nobody
			c.allows = true
		case "nosystemcert":
			c.ownOnly = true
		case "authselectmode":
			if len(words) == 2 {
				c.auth = words[1]
			}
		case "keyfile":
			if fields := strings.Fields(l.text); len(fields) == 2 {
				b.keys = keyTable{}
				b.readChronyKeys(l, fields[1])
			}
		case "ntstrustedcerts":
			if set, file, ok := certificateSet(l); ok {
				c.trusted[set] = append(c.trusted[set], file)
			}
		case "leapsecmode":
			c.slews = len(words) == 2 && words[1] == "slew"
		case "smoothtime":
			c.smooth = true
		case "port":
			closed = len(words) == 2 && strings.Trim(words[1], "0") == ""
		}
	}
	c.allows = c.allows && !closed
	c.mixed(all)
	for _, l := range all {
		if !strings.HasSuffix(l.file, ".sources") || l.file == path {
			c.behind(func() { c.directive(l) })
			continue
		}
		switch word := strings.ToLower(strings.Fields(l.text)[0]); word {
		case "server", "pool", "peer":
			c.behind(func() { c.directive(l) })
		default:
			c.note(l, NoteRefused, "chronyd drops this line in silence: a .sources file holds server, pool and peer")
		}
	}
	c.finish()
}

// lines gives the directives of a file, with those of the files that it names in their place.
func (c *chrony) lines(path string, data []byte) (all []line) {
	nr := 0
	for row := range bytes.Lines(data) {
		nr++
		text := strings.Join(strings.Fields(string(row)), " ")
		if text == "" || strings.ContainsAny(text[:1], "!;#%") {
			continue
		}
		l := line{path, nr, text}
		if c.count++; c.count > maxLines {
			c.tooMany(l, c.count)
			break
		}
		if strings.HasSuffix(path, ".sources") && !bytes.HasSuffix(row, []byte("\n")) {
			c.note(l, NoteRefused, "chronyd drops the last line of a .sources file in silence where it does not end")
			continue
		}
		all = append(all, l)
		for _, file := range c.named(l) {
			if c.depth >= maxDepth || file == path {
				break
			}
			more, err := c.o.Files.Read(file)
			if err != nil {
				continue
			}
			c.depth++
			all = append(all, c.lines(file, more)...)
			c.depth--
		}
	}
	return all
}

// named are the files that a line names: include, confdir and sourcedir.
func (c *chrony) named(l line) (files []string) {
	words := strings.Fields(l.text)
	switch strings.ToLower(words[0]) {
	case "include":
		if len(words) == 2 {
			return c.o.Files.Glob(words[1])
		}
	case "confdir":
		return byBaseName(c.o.Files, words[1:], "*.conf")
	case "sourcedir":
		return byBaseName(c.o.Files, words[1:], "*.sources")
	}
	return nil
}

// byBaseName gives the files of several folders in the order of their names; of one name
// the first folder's counts (chrony.conf(5), confdir).
func byBaseName(files Files, folders []string, pattern string) (list []string) {
	taken := map[string]bool{}
	for _, folder := range folders {
		for _, file := range files.Glob(filepath.Join(folder, pattern)) {
			if name := filepath.Base(file); !taken[name] {
				taken[name] = true
				list = append(list, file)
			}
		}
	}
	slices.SortFunc(list, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return list
}

// directive converts one line.
func (c *chrony) directive(l line) {
	words := strings.Fields(l.text)
	word, args := strings.ToLower(words[0]), words[1:]
	if convert := chronyDirectives[word]; convert != nil {
		convert(c, l, args)
		return
	}
	if reason, known := chronyNothing[word]; known {
		c.note(l, NoteNothing, "%s", reason)
		return
	}
	if reason, known := chronyNoEqual[word]; known {
		c.note(l, NoteNoEqual, "%s", reason)
		return
	}
	c.note(l, NoteRefused, "chronyd has no directive %q, or timeball convert does not know it", shorten(words[0], 30))
}

// number reads the only argument of a line strictly. chronyd cuts what it cannot read off
// without a word ("port 99999" is 34463), which nobody means.
func (c *chrony) number(l line, args []string, lowest, highest float64) (float64, bool) {
	if len(args) != 1 {
		c.note(l, NoteRefused, "one number is needed, and there are %d words", len(args))
		return 0, false
	}
	return c.builder.number(l, args[0], lowest, highest)
}

// number reads a decimal number within bounds.
func (b *builder) number(l line, text string, lowest, highest float64) (float64, bool) {
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || math.IsNaN(v) || math.IsInf(v, 0) || strings.ContainsAny(text, "xXpP_"):
		b.note(l, NoteRefused, "%q is not a plain decimal number", shorten(text, 30))
	case v < lowest || v > highest:
		b.note(l, NoteRefused, "%s is not within %g to %g", text, lowest, highest)
	default:
		return v, true
	}
	return 0, false
}

// maxDistance sets selection.max_distance, in seconds. A larger one than 16 s is that: by
// RFC 5905 (section 5, MAXDISP) what is further off is not synchronized.
func (b *builder) maxDistance(l line, distance float64) {
	const most = 16.0
	if distance > most {
		b.note(l, NoteChanged, "a source further off than 16 s is not synchronized, so it is that")
	}
	b.set(l, "selection", "max_distance", seconds(min(distance, most)))
}

// poll reads a poll exponent and brings it within what timeball polls.
func (b *builder) poll(l line, option, text string, lowest, highest int) (config.Poll, bool) {
	n, err := strconv.Atoi(text)
	if err != nil || n < lowest || n > highest {
		b.note(l, NoteRefused, "%s %s is not a whole number from %d to %d", option, shorten(text, 20), lowest, highest)
		return 0, false
	}
	within := min(max(config.Poll(n), config.MinPoll), config.MaxPoll)
	if int(within) != n {
		b.note(l, NoteChanged, "%s %d: timeball polls from 2^%d to 2^%d s, so it is %d", option, n, config.MinPoll, config.MaxPoll, within)
	}
	return within, true
}

// finish writes what all lines together say.
func (c *chrony) finish() {
	if !c.steps {
		c.fill("clock", "step", "{updates: 0}")
		c.remark("chronyd without makestep never steps; timeball's own default is {threshold: 1s, updates: 3}")
	}
	if len(c.kinds) > 0 {
		c.fill("statistics", "directory", statisticsFolder)
		c.fill("statistics", "kinds", list(c.kinds))
		c.remark("the files are timeball's own CSV, not chronyd's logs")
	}
	if hasKey("control.chrony_port") && c.sections["control"] == nil {
		c.remark("chronyc and what watches chronyd find timeball with control: {chrony_port: 323}, or chrony_socket: /run/chrony/chronyd.sock")
	}
	if !c.allows {
		return
	}
	access := c.access.access()
	if access == "" {
		access = nobody
	}
	c.fill("server", "access", access)
	port := c.port
	if port == "" {
		port = "123"
	}
	switch {
	case len(c.binds) > 0:
		var at []string
		slices.Sort(c.binds)
		for _, address := range slices.Compact(c.binds) {
			if strings.Contains(address, ":") {
				address = "[" + address + "]"
			}
			at = append(at, address+":"+port)
		}
		c.fillListen(at)
	case port != "123":
		c.fill("server", "listen", list([]string{":" + port}))
	}
	if len(c.ntsFiles) > 0 {
		if err := try("server", "{nts: "+c.ntsFiles.String()+"}"); err == nil {
			c.fill("server", "nts", c.ntsFiles.String())
		} else {
			c.remark(fmt.Sprintf("server.nts: %s is not complete: %v", c.ntsFiles, err))
		}
	}
}

// statisticsFolder is where converted configurations keep statistics.
const statisticsFolder = "/var/log/timeball"
