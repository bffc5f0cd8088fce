package convert

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// openNTPD is the state of a conversion of OpenNTPD's ntpd.conf.
type openNTPD struct {
	*builder
	listen []string
	from   []netip.Addr // query from, of the lines below it
	names  map[string]bool
	pools  bool // it has been told what a pool is
}

// convertOpenNTPD converts ntpd.conf as OpenNTPD 6.2 reads it: # begins a comment anywhere,
// the last line ends with a newline, and no line with a carriage return.
func convertOpenNTPD(b *builder, path string, data []byte) {
	o := &openNTPD{builder: b, names: map[string]bool{}}
	nr, begun := 0, ""
	for row := range bytes.Lines(data) {
		nr++
		whole := begun + string(row)
		begun = ""
		if more, found := strings.CutSuffix(whole, "\\\n"); found && !strings.Contains(whole, "#") { // it goes on in the next line
			begun = more + " "
			continue
		}
		text, _, _ := strings.Cut(whole, "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		l := line{path, nr, strings.Join(fields, " ")}
		switch {
		case !strings.HasSuffix(whole, "\n"):
			o.note(l, NoteRefused, "OpenNTPD refuses a last line without a newline")
		case strings.Contains(whole, "\r"):
			o.note(l, NoteRefused, "OpenNTPD refuses carriage returns; save the file with Unix lines")
		default:
			o.behind(func() { o.directive(l, fields) })
		}
	}
	if len(o.listen) > 0 {
		o.fillListen(o.listen)
		o.fill("server", "access", timeForAll)
	}
}

// directive converts one line.
func (o *openNTPD) directive(l line, fields []string) {
	for i := range fields {
		fields[i] = strings.Trim(fields[i], `"`)
	}
	word, args := fields[0], fields[1:]
	second := ""
	if len(args) > 0 {
		second = args[0]
	}
	switch {
	case word == "listen" && second == "on" && len(args) >= 2:
		o.listenOn(l, args[1], args[2:])
	case word == "query" && second == "from" && len(args) == 2:
		address, err := netip.ParseAddr(args[1])
		if err != nil {
			o.note(l, NoteRefused, "%q is not an address", shorten(args[1], 40))
			return
		}
		o.from = append(o.from, address)
		o.note(l, NoteNothing, "it is the source_address of those below with an address of its family")
	case (word == "server" || word == "servers") && len(args) > 0:
		o.source(l, word, args)
	case word == "constraint" || word == "constraints":
		o.note(l, NoteNoEqual, "time is not taken from HTTPS; with NTS the servers themselves prove who they are")
	case word == "sensor":
		o.note(l, NoteNoEqual, "Linux has no timedelta sensors; see refclock")
	default:
		o.note(l, NoteRefused, "OpenNTPD has no such line, and does not start with it")
	}
}

// listenOn converts listen on ADDRESS [rtable N].
func (o *openNTPD) listenOn(l line, address string, more []string) {
	at := ""
	if address == "*" {
		at = ":123"
	} else {
		a, err := netip.ParseAddr(address)
		if err != nil {
			o.note(l, NoteChanged, "give the address in place of a name")
			return
		}
		at = netip.AddrPortFrom(a, 123).String()
	}
	for _, known := range o.listen {
		if known == at {
			o.note(l, NoteNothing, "it is given twice")
			return
		}
	}
	if err := try("server", "{listen: "+list([]string{at})+"}"); err != nil {
		o.note(l, NoteRefused, "%v", err)
		return
	}
	o.place("server", "listen")
	o.listen = append(o.listen, at)
	o.out.Converted++
	if len(more) > 0 {
		o.note(line{l.file, l.nr, strings.Join(more, " ")}, NoteNoEqual, "Linux has no routing domains of this kind")
	}
}

// source converts server and servers HOST [weight N] [trusted].
func (o *openNTPD) source(l line, word string, args []string) {
	kind := map[string]string{"server": "server", "servers": "pool"}[word]
	host, m := args[0], mapping{}
	for i := 1; i < len(args); i++ {
		switch {
		case args[i] == "trusted":
			o.note(line{l.file, l.nr, "trusted"}, NoteNothing, "it only spares the constraint, and there are none")
		case args[i] == "weight" && i+1 < len(args):
			i++
			if n, err := strconv.Atoi(args[i]); err != nil || n < 1 || n > 10 {
				o.note(l, NoteRefused, "weight %s is not from 1 to 10", shorten(args[i], 20))
				return
			}
			o.note(line{l.file, l.nr, "weight " + args[i]}, NoteNothing, learned)
		case args[i] == "rtable" && i+1 < len(args):
			i++
			o.note(line{l.file, l.nr, "rtable"}, NoteNoEqual, "Linux has no routing domains of this kind")
		default:
			o.note(l, NoteRefused, "OpenNTPD does not start with the word %q", shorten(args[i], 30))
			return
		}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		for _, from := range o.from {
			if from.Is4() == a.Is4() {
				m = mapping{"source_address: " + quote(from.String())} // the last one counts
			}
		}
	} else if len(o.from) > 0 {
		o.note(line{l.file, l.nr, "query from"}, NoteChanged, "a name may have addresses of both families; give source_address yourself")
	}
	name := kind + " " + strings.ToLower(host)
	if o.names[name] {
		o.note(l, NoteRefused, "it is given twice, and would vote twice")
		return
	}
	if o.entry(l, "sources", append(mapping{kind + ": " + quote(host)}, m...).String()) {
		o.names[name] = true
	}
	if word == "servers" && !o.pools {
		o.pools = true
		o.note(line{l.file, l.nr, "servers"}, NoteChanged, "OpenNTPD asks all addresses of the name, here `count` of them are in use, 4 unless given")
	}
}
