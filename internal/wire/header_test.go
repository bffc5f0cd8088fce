package wire_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// TestRFC5905_7_3_Header lays the header out byte by byte as Figure 8 has it.
func TestRFC5905_7_3_Header(t *testing.T) {
	h := wire.Header{
		Leap: wire.LeapDelete, Version: 4, Mode: wire.ModeServer, Stratum: 3, Poll: 10, Precision: -24,
		RootDelay: 0x00012345, RootDispersion: 0x0000fedc, ReferenceID: wire.ReferenceName("GPS"),
		ReferenceTime: 0x0011223344556677, Origin: 0x8899aabbccddeeff,
		Receive: 0x0123456789abcdef, Transmit: 0xfedcba9876543210,
	}
	want, err := hex.DecodeString("a4030ae8" + "00012345" + "0000fedc" + "47505300" +
		"0011223344556677" + "8899aabbccddeeff" + "0123456789abcdef" + "fedcba9876543210")
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	var p wire.Packet
	if defect := p.Decode(want); defect != wire.DefectNone || p.Header != h {
		t.Errorf("got %+v (%v), want %+v", p.Header, defect, h)
	}
}

func TestHeaderKeepsToItsBits(t *testing.T) {
	h := wire.Header{Leap: 7, Version: 12, Mode: 11}
	if got := h.Append(nil)[0]; got != 0xe3 {
		t.Errorf("got %#x, want 0xe3: each value cut to its own bits", got)
	}
}

func TestPutTransmitChangesNothingElse(t *testing.T) {
	h := wire.Header{Version: 4, Mode: wire.ModeServer, Receive: ^ntptime.Timestamp(0)}
	b := h.Append(nil)
	wire.PutTransmit(b, 0x1122334455667788)
	h.Transmit = 0x1122334455667788
	if want := h.Append(nil); !bytes.Equal(b, want) {
		t.Errorf("got %x, want %x", b, want)
	}
}

func TestRFC5905_7_3_ReferenceID(t *testing.T) {
	for _, test := range []struct {
		name    string
		got     wire.ReferenceID
		want    wire.ReferenceID
		stratum uint8
		text    string
	}{
		{"letters are padded on the right", wire.ReferenceName("GPS"), 0x47505300, 1, "GPS"},
		{"more than four letters are cut", wire.ReferenceName("LONGER"), 0x4c4f4e47, 1, "LONG"},
		{"an IPv4 address stands as it is", wire.ReferenceAddress(netip.MustParseAddr("192.0.2.1")), 0xc0000201, 2, "192.0.2.1"},
		{"a mapped address counts as IPv4", wire.ReferenceAddress(netip.MustParseAddr("::ffff:192.0.2.1")), 0xc0000201, 2, "192.0.2.1"},
		// MD5 of the sixteen bytes of 2001:db8::1, from md5sum.
		{"an IPv6 address by its MD5", wire.ReferenceAddress(netip.MustParseAddr("2001:db8::1")), 0x39ab9b37, 3, "57.171.155.55"},
		{"bytes that do not print", wire.ReferenceID(0x41001fff), 0x41001fff, 0, "A???"},
		{"a kiss code", wire.KissRATE, wire.ReferenceName("RATE"), 0, "RATE"},
		{"no reference id", 0, 0, 0, ""},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %08x, want %08x", test.name, uint32(test.got), uint32(test.want))
		}
		if got := test.got.Format(test.stratum); got != test.text {
			t.Errorf("%s: got %q, want %q", test.name, got, test.text)
		}
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{wire.ModeClient.String(), "client"}, {wire.Mode(15).String(), "private"},
		{wire.LeapUnknown.String(), "unsynchronized"}, {wire.Leap(5).String(), "insert"},
		{wire.DefectTrailer.String(), "trailer"}, {wire.DefectNone.String(), "none"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
