// Package captures holds exchanges recorded between real NTP programs, as test
// vectors: a pcap each in testdata, what it shows in index.json, and beside those
// with NTS the secrets of their TLS sessions (NSS key log format). Every packet must
// decode, every MAC verify, every refused packet be refused for the right reason.
package captures

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

//go:embed testdata
var files embed.FS

// Description says what a capture shows: the programs and their configuration, and
// what is on the wire, counted.
type Description struct {
	What string `json:"what"`
	Wire string `json:"wire"`
}

// Datagram is one UDP datagram of a capture.
type Datagram struct {
	Time        time.Time // to the microsecond
	Source      netip.AddrPort
	Destination netip.AddrPort
	Payload     []byte
}

// NTP reports whether the datagram is one of NTP's, by its ports.
func (d *Datagram) NTP() bool { return d.Source.Port() == 123 || d.Destination.Port() == 123 }

// Key is a symmetric key that some of the captures use; the type is named as in a
// configuration. Two of them share the id 1: they belong to different captures.
type Key struct {
	ID     uint32
	Type   string
	Secret []byte
}

// Keys are the keys of all captures (index.json names them).
func Keys() []Key {
	return []Key{
		{1, "md5", []byte("\x7a\x1f\x3c\xbb\x2d\x5e\x90\x88\x6c\x41\xaa\x0f\x93\xe2\xd7\xb5")},
		{1, "md5", []byte("plainkey123")},
		{2, "sha1", []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x01\x23\x45\x67")},
		{3, "sha256", []byte("\xc0\xff\xee\x00\xc0\xff\xee\x01\xc0\xff\xee\x02\xc0\xff\xee\x03\xc0\xff\xee\x04\xc0\xff\xee\x05\xc0\xff\xee\x06\xc0\xff\xee\x07")},
		{4, "aes128-cmac", []byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f")},
		{5, "aes256-cmac", []byte(strings.Repeat("\x00", 16) + strings.Repeat("\xff", 16))},
	}
}

// Names lists the captures in the order of their names.
func Names() []string {
	entries, err := files.ReadDir("testdata")
	if err != nil {
		panic(err) // embedded: it cannot be missing
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), ".pcap"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Index gives the description of every capture by its name.
func Index() (map[string]Description, error) {
	text, err := files.ReadFile("testdata/index.json")
	if err != nil {
		return nil, err
	}
	var index map[string]Description
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	return index, nil
}

// Read gives the UDP datagrams of the capture of that name, in their order.
func Read(name string) ([]Datagram, error) {
	file, err := files.ReadFile(path.Join("testdata", name+".pcap"))
	if err != nil {
		return nil, err
	}
	datagrams, err := ReadPcap(file)
	if err != nil {
		return nil, fmt.Errorf("%s.pcap: %w", name, err)
	}
	return datagrams, nil
}

// Pcap gives the whole file of a capture, TCP included.
func Pcap(name string) ([]byte, error) { return files.ReadFile(path.Join("testdata", name+".pcap")) }

// KeyLog gives the TLS secrets of a capture with NTS, in NSS key log format.
func KeyLog(name string) ([]byte, error) {
	return files.ReadFile(path.Join("testdata", name+".keylog"))
}

// Payloads gives the payload of every NTP datagram of all captures: a corpus for
// fuzzing and mutation.
func Payloads() ([][]byte, error) {
	var payloads [][]byte
	for _, name := range Names() {
		datagrams, err := Read(name)
		if err != nil {
			return nil, err
		}
		for _, d := range datagrams {
			if d.NTP() {
				payloads = append(payloads, d.Payload)
			}
		}
	}
	return payloads, nil
}
