package user

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// The commands of docs/nts.md make an authority and a certificate that a server serves by
// and that `query --nts` takes, with the chain shown.
func TestTheRecipeForCertificatesWorks(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/nts.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "```sh\n# An authority")
	recipe, _, _ := strings.Cut(after, "```")
	h := peers.Here(t)
	script := h.Write("recipe.sh", "set -e\n#"+strings.ReplaceAll(recipe, "time.example.net", "localhost"))
	cmd := exec.Command("sh", script)
	cmd.Dir = h.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the recipe: %v: %s", err, out)
	}
	ntp, ke := peers.FreePort(t, "udp"), peers.FreePort(t, "tcp")
	peers.Timeball(t, h, fmt.Sprintf(`
local: {stratum: 3}
clock: {driver: observe}
server:
  listen: ["127.0.0.1:%d"]
  nts: {listen: ["127.0.0.1:%d"], certificate: %s/cert.pem, key: %s/key.pem, keys: %s/nts-keys}
`, ntp, ke, h.Dir, h.Dir, h.Dir))
	ask := func(name string, flags ...string) (string, string, error) {
		argv := append([]string{peers.Binary(t), "query", "--nts", fmt.Sprintf("%s:%d", name, ntp), "--nts-port", fmt.Sprint(ke)}, flags...)
		return h.Run(nil, argv...)
	}
	peers.Eventually(t, time.Minute, "an answer by NTS", func() error {
		out, complaints, err := ask("localhost", "--nts-ca", filepath.Join(h.Dir, "ca.pem"))
		switch {
		case err != nil:
			return fmt.Errorf("%w: %s", err, complaints)
		case !strings.Contains(out, "AEAD_AES_128_GCM_SIV, 8 cookies") || !strings.Contains(out, "CN=localhost for localhost, by CN=Our time"):
			return fmt.Errorf("got %s", out)
		}
		return nil
	})
	for name, words := range map[string]string{"localhost": "NTS key exchange: chain: ", "127.0.0.1": "NTS key exchange: name: "} {
		flags := []string{"--nts-ca", filepath.Join(h.Dir, "ca.pem")}
		if name == "localhost" {
			flags = nil // the system's authorities do not know ours
		}
		if _, complaints, err := ask(name, flags...); err == nil || !strings.Contains(complaints, words) {
			t.Errorf("%s: got %v, %q, want %q", name, err, complaints, words)
		}
	}
}

// A container or a small system has no certificates of authorities: check says so, and
// explain does where a source rests on them.
func TestWithoutAuthoritiesNTSSaysSo(t *testing.T) {
	t.Parallel()
	h := peers.Here(t)
	none := []string{"SSL_CERT_FILE=/nonexistent/ca.crt", "SSL_CERT_DIR=/nonexistent"}
	const why = "no certificates of authorities"
	file := h.Write("none.yaml", "sources: [{server: 127.0.0.1, nts: true}]\n")
	_, said, err := h.Run(none, peers.Binary(t), "check", "--config", file)
	if err != nil || !strings.Contains(said, why) {
		t.Errorf("check: got %v, %s; want it to say %q", err, said, why)
	}
	server := peers.Here(t)
	authority := peers.NewAuthority(t)
	certificate, key := authority.Issue(server, "localhost")
	port := peers.FreePort(t, "tcp")
	peers.Timeball(t, server, fmt.Sprintf("clock: {driver: virtual}\nlocal: {}\nserver: {listen: [\"127.0.0.1:0\"], nts: {listen: [\"127.0.0.1:%d\"], certificate: %s, key: %s}}\n", port, certificate, key))
	client := peers.Here(t)
	conf := client.Write("client.yaml", fmt.Sprintf("clock: {driver: virtual}\ncontrol: {socket: client.sock}\nsources: [{server: localhost, nts: {port: %d}}]\n", port))
	client.Start("timeball", none, peers.Binary(t), "run", "--config", conf)
	peers.Eventually(t, 2*time.Minute, "explain says why", func() error {
		text, complaint, err := client.Run(nil, peers.Binary(t), "explain", "--socket", filepath.Join(client.Dir, "client.sock"))
		if err == nil && !strings.Contains(text, why) {
			err = fmt.Errorf("got %s", text)
		}
		if err != nil {
			err = fmt.Errorf("%w: %s", err, complaint)
		}
		return err
	})
}
