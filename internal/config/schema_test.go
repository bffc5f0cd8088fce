package config

import (
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const documentation = "../../docs/configuration.md"

// documentedKeys gives the rows of the documentation's tables: | `key` | type |
// default | range | meaning |.
func documentedKeys(t *testing.T) (keys []KeyInfo, meanings []string) {
	t.Helper()
	data, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) < 5 {
			continue
		}
		plain := func(cell string) string { return strings.Trim(strings.TrimSpace(cell), "`") }
		keys = append(keys, KeyInfo{plain(cells[0]), plain(cells[1]), plain(cells[2]), plain(cells[3])})
		meanings = append(meanings, cells[4])
	}
	return keys, meanings
}

// TestDocumentationHasEveryKey compares the documentation with the tables: every key,
// its type, default and range, in the same order, and nothing else.
func TestDocumentationHasEveryKey(t *testing.T) {
	got, meanings := documentedKeys(t)
	want := Schema()
	documented := map[string]KeyInfo{}
	for i, key := range got {
		documented[key.Path] = key
		if len(meanings[i]) < 15 {
			t.Errorf("%s: got meaning %q, want a sentence", key.Path, meanings[i])
		}
	}
	known := map[string]bool{}
	for _, key := range want {
		known[key.Path] = true
		row, there := documented[key.Path]
		switch {
		case !there:
			t.Errorf("%s is not documented", key.Path)
		case row != key:
			t.Errorf("%s: got %+v documented, want %+v", key.Path, row, key)
		}
	}
	for _, key := range got {
		if !known[key.Path] {
			t.Errorf("%s is documented, and no key", key.Path)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d rows, want %d", len(got), len(want))
	}
}

// TestDocumentationsExamplesAreGood parses every YAML block of the documentation.
func TestDocumentationsExamplesAreGood(t *testing.T) {
	data, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) < 8 {
		t.Fatalf("got %d examples, want at least 8", len(blocks))
	}
	for _, block := range blocks {
		text := block[1]
		if strings.HasPrefix(text, "- ") { // a file of keys
			d := newDecoder("keys.yaml")
			d.keys(place{d.document([]byte(text)), "keys"})
			if len(d.problems) > 0 {
				t.Errorf("%s\ngot problems:\n%s", text, strings.Join(messages(d.problems), "\n"))
			}
			continue
		}
		if c, problems := Parse("c", []byte(text)); c == nil {
			t.Errorf("%s\ngot problems:\n%s", text, strings.Join(messages(problems), "\n"))
		}
	}
}

// TestExampleConfigurationIsClean checks configs/timeball.yaml as its user would: not
// one problem, not one warning.
func TestExampleConfigurationIsClean(t *testing.T) {
	data, err := os.ReadFile("../../configs/timeball.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, warnings, err := Load(write(t, "timeball.yaml", string(data), 0o644))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("got %v, %v, want neither problem nor warning", err, warnings)
	}
	if c.Server != nil || c.Sources[0].Count != 4 || c.Clock.DriftFile == "" || c.Control.Socket != DefaultSocket {
		t.Errorf("got %+v, want a client of a pool with a drift file and a socket", c)
	}
}

// TestExampleConfigurationsCommentsAreGood takes the # from every commented key of
// the example, which must then be good too.
func TestExampleConfigurationsCommentsAreGood(t *testing.T) {
	data, err := os.ReadFile("../../configs/timeball.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^( *)#((?:  )*(?:- )?[a-z_]+:)`).ReplaceAllString(string(data), "$1$2")
	text = strings.ReplaceAll(text, "\nkeys: /etc/timeball/keys.yaml", "\nkeys: [{id: 10, type: sha256, text: x}]")
	c, problems := Parse("c", []byte(text))
	if c == nil {
		t.Fatalf("%s\ngot problems:\n%s", text, strings.Join(messages(problems), "\n"))
	}
	if c.Server == nil || c.Metrics == nil || len(c.Sources) < 2 {
		t.Errorf("got %+v, want the commented server, metrics and sources", c)
	}
}

// TestEveryKeyIsInTheFullExample makes sure that the example of the interface really
// tries the whole schema, but for alternatives.
func TestEveryKeyIsInTheFullExample(t *testing.T) {
	data, err := os.ReadFile("testdata/good/interfaces.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := parse("c", data)
	index := regexp.MustCompile(`\[\d+\]`)
	given := map[string]bool{}
	for path := range d.places {
		given[index.ReplaceAllString(path, "[]")] = true
	}
	for _, key := range Schema() {
		switch name := key.Path[strings.LastIndexByte(key.Path, '.')+1:]; {
		case given[key.Path], name == "port", name == "unauthenticated", name == "version", name == "text", name == "device":
		default:
			t.Errorf("%s is not in the example", key.Path)
		}
	}
}

// TestPresetsParse makes sure that every default written as text becomes a value.
func TestPresetsParse(t *testing.T) {
	c := mustParse(t, "server: {multicast: [{}], broadcast: [{interface: a}], nts: {certificate: a, key: b}}\nmetrics: {}\n")
	group, all := netip.MustParseAddr("224.0.1.1"), netip.MustParseAddr("255.255.255.255")
	if m := c.Server.Multicast[0]; m.Group != group || m.TTL != 16 || m.Interval != 64*time.Second || m.Port != 123 || m.Version != 4 {
		t.Errorf("got multicast %+v, want the defaults", m)
	}
	if b := c.Server.Broadcast[0]; b.Address != all || b.Interval != 64*time.Second || b.Port != 123 || b.Version != 4 {
		t.Errorf("got broadcast %+v, want the defaults", b)
	}
	if n := c.Server.NTS; !slices.Equal(n.Listen, []ListenAddress{{Port: NTSPort}}) || n.Rotate != 24*time.Hour {
		t.Errorf("got NTS %+v, want the defaults", n)
	}
	if want := (ListenAddress{Addr: netip.MustParseAddr("127.0.0.1"), Port: 9123}); c.Metrics.Listen != want {
		t.Errorf("got metrics at %v, want %v", c.Metrics.Listen, want)
	}
}

func TestSchemaIsACopy(t *testing.T) {
	Schema()[0].Path = "changed"
	if got := Schema()[0].Path; got != "sources" {
		t.Errorf("got %q, want sources: the caller must not change the table", got)
	}
}
