package captures_test

import (
	"fmt"
	"strings"
	"testing"

	"timeball/test/captures"
)

func TestEveryCaptureIsDescribed(t *testing.T) {
	index, err := captures.Index()
	if err != nil {
		t.Fatal(err)
	}
	names := captures.Names()
	if len(names) < 50 {
		t.Errorf("got %d captures, want all of them, more than 50", len(names))
	}
	for _, name := range names {
		if index[name].What == "" || index[name].Wire == "" {
			t.Errorf("%s: no description in index.json", name)
		}
		delete(index, name)
	}
	for name := range index {
		t.Errorf("%s: described, but not there", name)
	}
}

// TestEveryCaptureHasItsPackets holds the reader to the number of NTP packets that
// index.json gives for each capture.
func TestEveryCaptureHasItsPackets(t *testing.T) {
	index, err := captures.Index()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range captures.Names() {
		datagrams, err := captures.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, d := range datagrams {
			if d.NTP() {
				count++
			}
		}
		var want int
		if _, err := fmt.Sscanf(index[name].Wire, "%d packets", &want); err != nil {
			t.Fatal(err)
		}
		if count != want {
			t.Errorf("%s: got %d NTP packets, want %d", name, count, want)
		}
	}
}

func TestReadPcapRefuses(t *testing.T) {
	whole, err := captures.Pcap("auth-md5-chrony")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"an empty file", nil, "too short"},
		{"another format", make([]byte, 100), "no pcap file"},
		{"a frame head cut short", whole[:30], "frame 1: its head is cut short"},
		{"a frame cut short", whole[:100], "frame 1: cut short"},
	} {
		_, err := captures.ReadPcap(test.file)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestReadPcapReadsAddressesAndPorts(t *testing.T) {
	for name, want := range map[string]string{
		"auth-md5-chrony": "10.99.0.2:42655 > 10.99.0.1:123",
		"cs-v4-ipv6":      "[fd00:99::2]:58511 > [fd00:99::1]:123",
	} {
		datagrams, err := captures.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%v > %v", datagrams[0].Source, datagrams[0].Destination); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
