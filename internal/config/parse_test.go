package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// mustParse parses a configuration that is known to be good.
func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, problems := Parse("c.yaml", []byte(text))
	if c == nil {
		t.Fatalf("got problems, want none:\n%s", strings.Join(messages(problems), "\n"))
	}
	return c
}

// defaults is the configuration that the defaults alone make.
func defaults() *Config {
	c := &Config{}
	configKeys.defaults(c)
	c.settleClock(newDecoder(""))
	c.settleNTS(newDecoder(""))
	return c
}

func TestEmptyFileHasAllDefaults(t *testing.T) {
	want := &Config{
		Symmetric: Symmetric{MaxAssociations: 100},
		Clock: Clock{
			Driver:    ClockKernel,
			DriftFile: "/var/lib/timeball/drift",
			StateDir:  "/var/lib/timeball",
			Step:      Step{Threshold: time.Second, Updates: 3},
			MaxSlew:   83333e-6,
			Panic:     1000 * time.Second,
			Leap:      Leap{Mode: LeapKernel, Smear: Smear{Window: 24 * time.Hour, Shape: SmearLinear}},
		},
		Selection:  Selection{MinSources: 1, MaxDistance: 1500 * time.Millisecond},
		Control:    Control{Socket: "/run/timeball/timeball.sock", Mode: 0o660},
		Statistics: Statistics{Kinds: []StatisticsKind{StatisticsMeasurements}, Format: StatisticsCSV, Keep: 30},
		History:    History{Size: 1_000_000},
		Log:        Log{Level: LevelInfo, Format: FormatConsole},
		NTS:        NTS{ColdStart: true, State: "/var/lib/timeball/nts"},
	}
	for _, text := range []string{"", "\n\n", "# only a comment\n", "{}", "~", "---\n", "\ufeff"} {
		if got := mustParse(t, text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
	if got := defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("the defaults: got %+v, want %+v", got, want)
	}
}

func TestServerSectionHasItsDefaults(t *testing.T) {
	want := &Server{
		Listen:      []ListenAddress{{Port: 123}},
		Require:     RequireNone,
		ClientLog:   ClientLog{Size: 65536},
		Interleaved: true,
		SilentStart: 10 * time.Second,
	}
	for _, text := range []string{"server:", "server: {}", "server: {access: , interfaces: {}}"} {
		if got := mustParse(t, text).Server; !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
	if got := mustParse(t, "server: {rate_limit: }").Server.RateLimit; !reflect.DeepEqual(got, &RateLimit{2 * time.Second, 8, 4}) {
		t.Errorf("got rate limit %+v, want the defaults", got)
	}
}

func TestSourcesHaveTheDefaultsOfTheirKind(t *testing.T) {
	client := Source{
		Kind: ServerSource, Host: "a", Port: 123, IBurst: true, MinPoll: 6, MaxPoll: 10, Version: 4,
		Interleaved: InterleavedAuto, MaxDelay: 3 * time.Second,
	}
	pool, peer := client, client
	pool.Kind, pool.Count = Pool, 4
	peer.Kind, peer.Unauthenticated = Peer, true
	group := netip.MustParseAddr("224.0.1.1")
	tests := []struct {
		text string
		want Source
	}{
		{"server: a", client},
		{"pool: a", pool},
		{"{peer: a, unauthenticated: true}", peer},
		{"{broadcast_client: , unauthenticated: true}",
			Source{Kind: BroadcastClient, Port: 123, Unauthenticated: true, MaxDelay: 3 * time.Second}},
		{"{multicast_client: {interface: eth1}, unauthenticated: true}",
			Source{Kind: MulticastClient, Port: 123, Group: group, Interface: "eth1", Unauthenticated: true, MaxDelay: 3 * time.Second}},
		{"refclock: {driver: shm}",
			Source{Kind: RefclockSource, MinPoll: 4, MaxPoll: 4, Refclock: &Refclock{Driver: RefclockSHM, RefID: "SHM", Delay: time.Microsecond,
				MinReadings: 1, Edge: EdgeAssert, Rate: 1, Mode: 0o600}}},
	}
	for _, test := range tests {
		got := mustParse(t, "sources:\n  - "+test.text).Sources[0]
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", test.text, got, test.want)
		}
	}
}

func TestPollDefaultsFollowEachOther(t *testing.T) {
	tests := []struct {
		text     string
		min, max Poll
	}{
		{"{server: a}", 6, 10},
		{"{server: a, min_poll: 12}", 12, 12},
		{"{server: a, min_poll: 4}", 4, 10},
		{"{server: a, max_poll: 4}", 4, 4},
		{"{server: a, max_poll: 12}", 6, 12},
		{"{server: a, min_poll: -4, max_poll: -4}", -4, -4},
	}
	for _, test := range tests {
		s := mustParse(t, "sources: ["+test.text+"]").Sources[0]
		if s.MinPoll != test.min || s.MaxPoll != test.max {
			t.Errorf("%s: got %d to %d, want %d to %d", test.text, s.MinPoll, s.MaxPoll, test.min, test.max)
		}
	}
}

func TestExampleOfTheInterface(t *testing.T) {
	c, warnings, err := Load("testdata/good/interfaces.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Sources) != 14 || c.Sources[1].Key != 10 || c.Sources[3].NTS.CA != "/etc/timeball/ca.pem" {
		t.Errorf("got sources %+v, want those of the file", c.Sources)
	}
	wantAccess := Access{
		Peer: []AccessRule{
			{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}},
			{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.64/26")}, Require: RequireKey},
			{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25")}, Deny: true},
		},
		Server:          []AccessRule{{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		Synchronization: []AccessRule{{Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, {Networks: []netip.Prefix{netip.MustParsePrefix("::/0")}}},
		Query:           []AccessRule{{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
	}
	if !reflect.DeepEqual(c.Server.Access, wantAccess) || !c.Server.Access.Any() {
		t.Errorf("got access %+v, want %+v", c.Server.Access, wantAccess)
	}
	if got, want := c.Local, (&Local{Stratum: 10, Activate: time.Hour, Orphan: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("got local %+v, want %+v", got, want)
	}
	if got, want := c.Clock.Virtual, (Virtual{250 * time.Millisecond, 12e-6}); got != want {
		t.Errorf("got virtual %+v, want %+v", got, want)
	}
	if len(c.Keys) != 1 || c.Keys[0].Secret[0] != 0x0f || !c.Server.ListenGiven || !c.Control.SocketGiven {
		t.Errorf("got keys %v, listen given %v, socket given %v, want one key and both given", c.Keys, c.Server.ListenGiven, c.Control.SocketGiven)
	}
	if len(warnings) == 0 {
		t.Error("got no warnings, want that of the unauthenticated source")
	}
}

// TestGivenDefaultsChangeNothing writes every default out; the result is the same.
func TestGivenDefaultsChangeNothing(t *testing.T) {
	var text strings.Builder
	section := ""
	for _, key := range Schema() {
		parent, name, nested := strings.Cut(key.Path, ".")
		if !nested || strings.Contains(name, ".") || strings.Contains(parent, "[") || key.Type == "section" {
			continue
		}
		if key.Default == "none" || strings.Contains(key.Default, " ") || parent == "server" || parent == "local" || parent == "metrics" || parent == "clockbound" {
			continue
		}
		if parent != section {
			section = parent
			text.WriteString(parent + ":\n")
		}
		text.WriteString("  " + name + ": " + key.Default + "\n")
	}
	got := mustParse(t, text.String())
	got.Control.SocketGiven = false
	if want := mustParse(t, ""); !reflect.DeepEqual(got, want) || strings.Count(text.String(), "\n") < 15 {
		t.Errorf("got %+v\nfor\n%s, want %+v", got, text.String(), want)
	}
}

func TestOnlyTheKernelsClockHasStateByDefault(t *testing.T) {
	tests := []struct{ text, drift, state string }{
		{"{}", "/var/lib/timeball/drift", "/var/lib/timeball"},
		{"{driver: virtual}", "", ""},
		{"{driver: observe}", "", ""},
		{"{driver: virtual, drift_file: /x/drift}", "/x/drift", "/x"},
		{"{drift_file: ''}", "", "/var/lib/timeball"},
		{"{drift_file: /x/drift, state_dir: /y}", "/x/drift", "/y"},
		{"{state_dir: ''}", "/var/lib/timeball/drift", ""},
	}
	for _, test := range tests {
		c := mustParse(t, "clock: "+test.text).Clock
		if c.DriftFile != test.drift || c.StateDir != test.state {
			t.Errorf("%s: got %q and %q, want %q and %q", test.text, c.DriftFile, c.StateDir, test.drift, test.state)
		}
	}
}

func TestRelativeFilesStartAtTheFile(t *testing.T) {
	text := `
keys: keys.yaml
clock: {drift_file: state/drift, leap: {file: leap.list}}
control: {socket: run/sock}
server: {nts: {certificate: cert.pem, key: /k.pem}}
sources: [{server: a, nts: {ca: ../ca.pem}}, {refclock: {driver: sock, device: gps.sock}}]
`
	c, problems := Parse("/etc/timeball/timeball.yaml", []byte(text))
	if c == nil {
		t.Fatal(problems)
	}
	got := []string{
		c.KeyFile, c.Clock.DriftFile, c.Clock.StateDir, c.Clock.Leap.File, c.Control.Socket,
		c.Server.NTS.Certificate, c.Server.NTS.Key, c.Sources[0].NTS.CA, c.Sources[1].Refclock.Device,
	}
	want := []string{
		"/etc/timeball/keys.yaml", "/etc/timeball/state/drift", "/etc/timeball/state", "/etc/timeball/leap.list", "/etc/timeball/run/sock",
		"/etc/timeball/cert.pem", "/k.pem", "/etc/ca.pem", "/etc/timeball/gps.sock",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKeyIDsWaitForTheKeyFile(t *testing.T) {
	c := mustParse(t, "sources: [{server: a, key: 77}]\nkeys: keys.yaml\nserver: {require: key}\n")
	if c.KeyFile != "keys.yaml" || c.Keys != nil || c.Sources[0].Key != 77 {
		t.Errorf("got %q, %v, key %d, want keys.yaml, none, key 77", c.KeyFile, c.Keys, c.Sources[0].Key)
	}
}

func TestPartOfAnotherFile(t *testing.T) {
	var scenario struct {
		Hosts map[string]struct {
			Config yaml.Node `yaml:"config"`
		} `yaml:"hosts"`
	}
	text := "hosts:\n  a:\n    config: {local: {stratum: 1}, server: {}}\n  b:\n    config:\n      sources: [{server: a, min_pol: 6}]\n"
	if err := yaml.Unmarshal([]byte(text), &scenario); err != nil {
		t.Fatal(err)
	}
	good, bad := scenario.Hosts["a"].Config, scenario.Hosts["b"].Config
	c, problems := ParseNode("s.yaml", &good)
	if c == nil || c.Local.Stratum != 1 || c.Server == nil || c.Server.ListenGiven {
		t.Errorf("got %+v, %v, want stratum 1 and a server that was not told where to listen", c, problems)
	}
	_, problems = ParseNode("s.yaml", &bad)
	want := "s.yaml:6:29: sources[0].min_pol: unknown key; did you mean min_poll?"
	if len(problems) != 1 || problems[0].String() != want {
		t.Errorf("got %v, want %q", problems, want)
	}
	if c, _ := ParseNode("s.yaml", nil); !reflect.DeepEqual(c, defaults()) {
		t.Errorf("got %+v for nothing, want the defaults", c)
	}
}

func TestSourceNames(t *testing.T) {
	c := mustParse(t, `
sources:
  - pool: pool.ntp.org
  - server: "[2001:db8::1]:1123"
  - server: 192.0.2.1:124
  - {peer: a, unauthenticated: true}
  - {broadcast_client: {interface: eth1}, unauthenticated: true}
  - {broadcast_client: {}, unauthenticated: true}
  - {multicast_client: {interface: eth1}, unauthenticated: true}
  - refclock: {driver: phc, unit: 2}
`)
	want := []string{
		"pool.ntp.org", "[2001:db8::1]:1123", "192.0.2.1:124", "a",
		"broadcast_client eth1", "broadcast_client", "multicast_client 224.0.1.1 eth1", "refclock phc 2",
	}
	for i := range c.Sources {
		if got := c.Sources[i].Name(); got != want[i] {
			t.Errorf("got %q, want %q", got, want[i])
		}
	}
}

func TestSameHostByTwoPathsIsNoDouble(t *testing.T) {
	mustParse(t, `
sources:
  - {server: 192.0.2.1, interface: eth0}
  - {server: 192.0.2.1, interface: eth1}
  - {server: 192.0.2.1, source_address: 192.0.2.9}
  - {server: "192.0.2.1:124"}
`)
}

func TestLongValuesAreCutInMessages(t *testing.T) {
	_, problems := Parse("c", []byte("sources: [{server: "+strings.Repeat("ä", 100000)+"}]\nlog: {level: "+strings.Repeat("9", 100000)+"}"))
	for _, p := range problems {
		if len(p.Message) > 700 {
			t.Errorf("got a message of %d bytes, want it cut", len(p.Message))
		}
	}
	if len(problems) != 2 {
		t.Errorf("got %d problems, want 2", len(problems))
	}
}
