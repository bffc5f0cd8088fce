package same

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/wire"
)

// Exchange is a server's configuration, and packets that somebody whom it does not name
// sends to its NTP port, one after the other, each from a port of its own. SERVER stands for
// a machine that answers nothing.
type Exchange struct {
	Name    string
	Config  string
	Packets []Packet
}

// Packet is one datagram.
type Packet struct {
	Name   string
	Data   []byte
	Reload string                    // the configuration that is loaded before; "": as it was
	After  func(reply []byte) []byte // makes Data of the reply to the packet before; nil: Data stands
}

// Request is packet i, after those before it have been answered.
func (e *Exchange) Request(i int, replies [][]byte) []byte {
	if p := &e.Packets[i]; p.After != nil {
		p.Data = p.After(replies[i-1])
	}
	return e.Packets[i].Data
}

const keys = "keys: [{id: 10, type: sha256, hex: abababababababababababababababababababababababababababababababab}, {id: 11, type: sha1, text: eleven-ten}]\n"

// Exchanges are one for each rule by which a server and its associations judge who comes.
func Exchanges(t *testing.T) []Exchange {
	t.Helper()
	const serves = "local: {stratum: 1, activate: 0s}\nserver: {"
	configs := []struct{ name, text string }{
		{"server", keys + serves + "}\n"},
		{"key required", keys + serves + "require: key}\n"},
		{"passive with a key", keys + serves + "}\nsymmetric: {passive: true, keys: [10]}\n"},
		{"passive without a key", keys + serves + "}\nsymmetric: {passive: true, unauthenticated: true}\n"},
		{"nobody may follow nor ask", keys + serves + "access: {synchronization: [0.0.0.0/0]}}\nsymmetric: {passive: true, keys: [10]}\n"},
		{"nobody has a right", keys + serves + "access: {peer: [203.0.113.0/24]}}\n"},
		{"no server", keys + "sources: [{broadcast_client: {}, key: 10}]\n"},
	}
	var list []Exchange
	for _, c := range configs {
		list = append(list, Exchange{c.name, c.text, packets(t, c.name == "server")})
	}
	const passive = "symmetric: {passive: true, keys: [10]}\n"
	for _, c := range []struct{ name, text string }{
		{"only time for everybody", keys + serves + "access: {server: [127.0.0.0/8, 198.18.0.0/15]}}\n" + passive},
		{"no time to tell", keys + "sources: [{server: SERVER}]\nserver: {silent_start: 0s}\n"},
		{"silent at the start", keys + "sources: [{server: SERVER}]\nserver: {silent_start: 24h}\n"},
	} {
		list = append(list, Exchange{c.name, c.text, some(packets(t, false), "version 4 mode 1", "version 4 mode 3", "mode 1 with key 10", "mode 3 with key 10", "mode 3 with a wrong MAC")})
	}
	request := func(n int) Packet { return Packet{Name: fmt.Sprintf("request %d", n), Data: plain(4, 3, n)} }
	const limited = "rate_limit: {interval: 4096s, burst: 2, leak: 16}}\n"
	loads := func(text string, p Packet) Packet { p.Name, p.Reload = p.Name+" after a reload", text; return p }
	const local = "local: {stratum: 1, activate: 0s}\n"
	return append(list,
		Exchange{"rate limit", serves + limited, []Packet{request(1), request(2), request(3), request(4)}},
		Exchange{"interleaved", serves + "}\n", interleaved()},
		Exchange{"not interleaved", serves + "interleaved: false}\n", interleaved()},
		Exchange{"a reload changes the rules", keys + serves + "access: {server: [127.0.0.0/8, 198.18.0.0/15]}}\n" + passive, slices.Concat(
			some(packets(t, false), "version 4 mode 3", "mode 1 with key 10"),
			[]Packet{loads(keys+serves+"require: key}\n"+passive, request(1))}, some(packets(t, false), "mode 3 with key 11", "mode 1 with key 11", "mode 1 with key 10"),
			[]Packet{loads(keys+serves+limited, request(2)), request(3), request(4), request(5)})},
		Exchange{"a reload lets nobody be followed", keys + serves + "}\n" + passive, append(some(packets(t, false), "mode 1 with key 10"),
			loads(keys+serves+"access: {server: [127.0.0.0/8, 198.18.0.0/15]}}\n"+passive, some(packets(t, false), "mode 1 with key 10")[0]))},
		Exchange{"a reload lets one be followed", keys + serves + "access: {server: [127.0.0.0/8, 198.18.0.0/15]}}\n" + passive, []Packet{
			loads(keys+serves+"}\n"+passive, some(packets(t, false), "mode 1 with key 10")[0])}},
		Exchange{"a server comes and goes by reload", local + "sources: [{broadcast_client: {}, unauthenticated: true}]\n", []Packet{
			request(1), loads(serves+"}\n", request(2)), request(3), loads(local+"sources: [{broadcast_client: {}, unauthenticated: true}]\n", request(4))}})
}

// plain is a header of a version and mode, without more; n tells its transmit timestamp.
func plain(version, mode uint8, n int) []byte {
	b := make([]byte, wire.HeaderSize)
	b[0], b[1], b[2], b[3] = version<<3|mode, 2, 6, 0xec
	binary.BigEndian.PutUint64(b[40:], 0xe900000000000000|uint64(n)<<32)
	return b
}

// interleaved are two requests in interleaved mode (RFC 9769 §2), whose origin is the receive
// timestamp of the reply before; of the first one, of a reply that nobody has sent.
func interleaved() []Packet {
	request := func(n int, reply []byte) []byte {
		b := plain(4, 3, n)
		copy(b[24:], reply[32:40])
		binary.BigEndian.PutUint64(b[32:], 0xe900000080000000)
		return b
	}
	return []Packet{
		{Name: "interleaved request 1", Data: request(1, plain(4, 4, 9)[8:])},
		{Name: "interleaved request 2", After: func(reply []byte) []byte { return request(2, reply) }},
	}
}

// some are those of a list with these names.
func some(list []Packet, names ...string) (chosen []Packet) {
	for _, p := range list {
		if slices.Contains(names, p.Name) {
			chosen = append(chosen, p)
		}
	}
	return chosen
}

// packets are those of every mode (and version), with and without keys, and some that are
// no NTP packets.
func packets(t *testing.T, versions bool) (list []Packet) {
	t.Helper()
	cfg, problems := config.Parse("keys", []byte(keys))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	ring, err := engine.Keys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	plain := func(version, mode uint8) []byte { return plain(version, mode, len(list)+1) }
	add := func(name string, data []byte) { list = append(list, Packet{Name: name, Data: data}) }
	for version := range uint8(8) {
		if !versions && version != 4 {
			continue
		}
		for mode := range uint8(8) {
			if mode == 6 {
				continue // its replies tell of the machine
			}
			add(fmt.Sprintf("version %d mode %d", version, mode), plain(version, mode))
		}
	}
	for _, mode := range []uint8{1, 2, 3, 4, 5} {
		for _, id := range []uint32{10, 11} {
			add(fmt.Sprintf("mode %d with key %d", mode, id), engine.Key(ring, id).AppendMAC(plain(4, mode), 4))
		}
		wrong := engine.Key(ring, 10).AppendMAC(plain(4, mode), 4)
		wrong[len(wrong)-1] ^= 1
		add(fmt.Sprintf("mode %d with a wrong MAC", mode), wrong)
		add(fmt.Sprintf("mode %d with a key that nobody has", mode), append(append(plain(4, mode), 0, 0, 0, 99), make([]byte, 20)...))
		add(fmt.Sprintf("mode %d with a crypto-NAK", mode), append(plain(4, mode), 0, 0, 0, 0))
	}
	add("no byte", nil)
	add("one byte", []byte{0x23})
	add("too short by one", plain(4, 3)[:47])
	add("three bytes too long", append(plain(4, 3), 1, 2, 3))
	add("an unknown extension field", append(plain(4, 3), append([]byte{0x7f, 1, 0, 28}, make([]byte, 24)...)...))
	return list
}

// Said is what a reply says, in one line; no timestamp is in it but the origin, which is
// the request's or is not.
func Said(request, reply []byte) string {
	var p wire.Packet
	switch {
	case len(reply) == 0:
		return "silence"
	case p.Decode(reply) != wire.DefectNone:
		return fmt.Sprintf("% x", reply)
	case p.Mode == wire.ModeClient:
		return "silence" // a question of an association's own, sooner or later
	}
	text := fmt.Sprintf("mode %d version %d leap %d stratum %d refid %s poll %d bytes %d", p.Mode, p.Version, p.Leap, p.Stratum, p.ReferenceID.Format(p.Stratum), p.Poll, len(reply))
	if p.HasMAC {
		text += fmt.Sprintf(" key %d", p.KeyID)
	}
	if len(request) >= wire.HeaderSize && string(reply[24:32]) != string(request[40:48]) {
		text += " of another origin"
	}
	return text
}

// Transcript is what became of an exchange: the replies in the order of the packets, and
// the associations that it has mobilized.
func Transcript(e Exchange, replies [][]byte, mobilized []*engine.Association) string {
	var b strings.Builder
	for i, p := range e.Packets {
		fmt.Fprintf(&b, "%s: %s\n", p.Name, Said(p.Data, replies[i]))
	}
	for _, a := range mobilized {
		key := uint32(0)
		if a.Config.Key != nil {
			key = a.Config.Key.ID()
		}
		fmt.Fprintf(&b, "mobilized: %s, version %d, key %d\n", a.Config.Kind, a.Config.Version, key)
	}
	return b.String()
}
