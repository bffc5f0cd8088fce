package user

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// freeTCP is a port of the loopback interface that nobody listens at now.
func freeTCP(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

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
	ntp, ke := freeTCP(t), freeTCP(t)
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
	peers.Eventually(t, 30*time.Second, "an answer by NTS", func() error {
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
