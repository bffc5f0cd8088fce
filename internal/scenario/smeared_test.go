package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSmearedHosts(t *testing.T) {
	read := func(leap, smeared string) (*Scenario, error) {
		path := filepath.Join(t.TempDir(), "s.yaml")
		text := "duration: 60s\nstart: 2026-12-31T10:00:00Z\n" + leap + "hosts: {a: {smeared: " + smeared + ", config: {local: {stratum: 1}}}}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(path)
	}
	const leap = "leap: {at: 2027-01-01T00:00:00Z, kind: insert}\n"
	s, err := read(leap, "{}")
	if err != nil || s.Hosts[0].Smeared.Window != 24*time.Hour || s.Hosts[0].Smeared.Shape != "linear" {
		t.Errorf("by default: %+v, %v", s, err)
	}
	for _, test := range []struct{ leap, smeared, want string }{
		{"", "{}", "has no meaning without a leap second"},
		{leap, "{shape: square}", `"square" is no shape`},
		{leap, "{window: 1s}", "window"},
		{leap, "{slope: 1}", "is no key"},
	} {
		if _, err := read(test.leap, test.smeared); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.smeared, err, test.want)
		}
	}
}
