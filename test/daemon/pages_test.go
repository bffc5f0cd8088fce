package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// freeTCP is a TCP address that is free, with an IP address of its own so that nobody takes
// it meanwhile.
func freeTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(freePort(t).Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// askPage asks for a page under a name, and gives its status and text.
func askPage(t *testing.T, at, host, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+at+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// A browser that a name of somebody else's has led here shows nothing; monitors scrape by
// any name.
func TestPagesAnswerToKnownNamesOnly(t *testing.T) {
	at := freeTCP(t)
	start(t, fmt.Sprintf("clock: {driver: virtual}\nlocal: {stratum: 3}\nmetrics: {listen: \"%s\", hosts: [Time1.example.net, ntp]}\n", at))
	for _, test := range []struct {
		host string
		want int
	}{
		{"localhost", 200}, {"LOCALHOST:9123", 200}, {"127.0.0.1:80", 200}, {"[::1]:9123", 200}, {"192.0.2.7", 200},
		{"time1.example.net", 200}, {"TIME1.example.net.:9123", 200}, {"ntp", 200},
		{"evil.example", 421}, {"127.0.0.1.evil.example", 421}, {"time1.example.net.evil.example", 421}, {"ntp.evil.example:9123", 421},
	} {
		if got, text := askPage(t, at, test.host, "/"); got != test.want {
			t.Errorf("the page as %s: got %d, want %d: %.80s", test.host, got, test.want, text)
		}
		if got, _ := askPage(t, at, test.host, "/metrics"); got != 200 {
			t.Errorf("/metrics as %s: got %d, want 200", test.host, got)
		}
	}
}

// Whoever may write the configuration may set the clock: check says who else may.
func TestCheckWarnsOfAConfigurationThatOthersMayWrite(t *testing.T) {
	const text = "sources: [{server: a.example}, {server: b.test}, {server: c.invalid}, {pool: pool.ntp.org, count: 1}]\nclock: {driver: virtual}\n"
	d := start(t, text)
	for _, test := range []struct {
		file, folder os.FileMode
		want         string
	}{
		{0o644, 0o755, ""}, {0o640, 0o1777 &^ 0, ""}, {0o660, 0o755, "others of its group may write"}, {0o664, 0o755, "others of its group may write"},
		{0o646, 0o755, "everybody may write"}, {0o644, 0o775, "its folder has mode 0775"}, {0o644, 0o757, "its folder has mode 0757"},
	} {
		folder := filepath.Join(t.TempDir(), "etc")
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, "timeball.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		mode := test.folder.Perm()
		if test.folder&0o1000 != 0 {
			mode |= os.ModeSticky
		}
		if err := os.Chmod(path, test.file); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(folder, mode); err != nil {
			t.Fatal(err)
		}
		_, said, err := d.Run("check", "--config", path)
		if err != nil || (test.want == "") != (said == "") || !strings.Contains(said, test.want) {
			t.Errorf("file %o in folder %o: got %v and %q, want %q", test.file, test.folder, err, said, test.want)
		}
	}
}
