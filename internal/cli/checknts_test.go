package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"timeball/internal/config"
	"timeball/test/peers"
)

func TestCheckWarnsOfCertificates(t *testing.T) {
	a, now := peers.NewAuthority(t), time.Now()
	day := 24 * time.Hour
	for _, test := range []struct {
		name     string
		from, to time.Time
		change   func(h *peers.Host, certificate, key string)
		want     string // "": nothing
	}{
		{"good", now.Add(-day), now.Add(90 * day), nil, ""},
		{"ends in six days", now.Add(-day), now.Add(6 * day), nil, "expires on"},
		{"has ended", now.Add(-9 * day), now.Add(-day), nil, "has expired on"},
		{"has not begun", now.Add(day), now.Add(9 * day), nil, "is not valid before"},
		{"a key that all can read", now.Add(-day), now.Add(90 * day), func(_ *peers.Host, _, key string) { _ = os.Chmod(key, 0o644) }, "others can use"},
		{"keys of cookies that others can read", now.Add(-day), now.Add(90 * day),
			func(h *peers.Host, _, _ string) { _ = os.Chmod(h.Write("nts-keys", "x"), 0o640) }, "others can read"},
		{"another's key", now.Add(-day), now.Add(90 * day), func(_ *peers.Host, _, key string) {
			_, other := a.Issue(peers.Here(t), "localhost")
			text, _ := os.ReadFile(other)
			_ = os.WriteFile(key, text, 0o600)
		}, "`timeball run` would refuse it"},
		{"no certificate there", now.Add(-day), now.Add(90 * day), func(_ *peers.Host, certificate, _ string) { _ = os.Remove(certificate) }, "`timeball run` would refuse it"},
	} {
		h := peers.Here(t)
		certificate, key := a.IssueFor(h, test.from, test.to, "localhost")
		_ = os.Chmod(key, 0o600)
		if test.change != nil {
			test.change(h, certificate, key)
		}
		cfg, problems := config.Parse("c", []byte(fmt.Sprintf("server: {nts: {certificate: %s, key: %s, keys: %s/nts-keys}}", certificate, key, h.Dir)))
		if cfg == nil {
			t.Fatal(problems)
		}
		got := strings.Join(ntsWarnings(cfg, now), "\n")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
