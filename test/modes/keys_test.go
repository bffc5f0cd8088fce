package modes

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// keyFile has `timeball keygen` make a key file on a host.
func keyFile(t *testing.T, h *peers.Host, name, kind string) string {
	t.Helper()
	path := filepath.Join(h.Dir, name)
	if _, complaints, err := h.Run(nil, peers.Binary(t), "keygen", "--id", "7", "--type", kind, "--file", path); err != nil {
		t.Fatalf("keygen: %v: %s", err, complaints)
	}
	if _, _, err := h.Run(nil, peers.Binary(t), "keygen", "--id", "7", "--type", kind, "--file", path); peers.ExitStatus(err) != 1 {
		t.Errorf("keygen over a key file: got status %d, want 1", peers.ExitStatus(err))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: got %v, %v, want one that only its owner can read", info.Mode(), err)
	}
	return path
}

// shareKey puts one host's key file where another host has its own.
func shareKey(t *testing.T, from string, h *peers.Host, name string) string {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	return h.Write(name, string(text))
}

// Every type of key that keygen makes signs requests, modes 1 and 2 and broadcasts
// between two daemons.
func TestEveryTypeOfKeySigns(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"md5", "sha1", "sha256", "sha384", "sha512", "aes128-cmac", "aes256-cmac"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client, peer, listener := lab.Host("server"), lab.Host("client"), lab.Host("peer"), lab.Host("listener")
			file := keyFile(t, server, "keys.yaml", kind)
			common := func(h *peers.Host) string { return fmt.Sprintf("keys: %s\n", shareKey(t, file, h, "shared.yaml")) }
			capture := listen(t, server)
			peers.Timeball(t, server, fmt.Sprintf("%ssymmetric: {passive: true, keys: [7]}\nserver: {require: key, broadcast: [{address: %v, interface: eth0, interval: 500ms, key: 7}]}\n%s",
				reference, lab.Broadcast(), common(server)))
			for h, source := range map[*peers.Host]string{
				client:   fmt.Sprintf("server: %v, min_poll: -1, max_poll: 0", server.IPv4),
				peer:     fmt.Sprintf("peer: %v, min_poll: -1, max_poll: 0", server.IPv4),
				listener: "broadcast_client: {interface: eth0}",
			} {
				d := peers.Timeball(t, h, fmt.Sprintf("sources: [{%s, key: 7}]\n%s%s", source, wrongClock, common(h)))
				d.Selects(60*time.Second, server.IPv4)
			}
			for _, p := range capture.packets() {
				if !p.HasMAC || p.KeyID != 7 {
					t.Fatalf("mode %d from %v: got MAC %v, key %d, want key 7", p.Mode, p.From, p.HasMAC, p.KeyID)
				}
			}
		})
	}
}

// A key that is changed in its file is believed after SIGHUP, and the old one is not.
func TestKeysAreReloaded(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	first, second := keyFile(t, server, "first.yaml", "aes128-cmac"), keyFile(t, server, "second.yaml", "aes128-cmac")
	serverConfig := func(file string) string {
		return fmt.Sprintf("%sserver: {require: key}\nkeys: %s\n", reference, file)
	}
	clientConfig := func(file string) string {
		return fmt.Sprintf("sources: [{server: %v, key: 7, min_poll: -2, max_poll: -2}]\n%skeys: %s\n", server.IPv4, wrongClock, shareKey(t, file, client, filepath.Base(file)))
	}
	s := peers.Timeball(t, server, serverConfig(first))
	c := peers.Timeball(t, client, clientConfig(first))
	c.Selects(time.Minute, server.IPv4)
	s.Reload(serverConfig(second))
	c.Has(time.Minute, "the old key is not believed any more", func(row peers.Source) bool {
		return row.At(server.IPv4) && row.Reach&0xf == 0
	})
	c.Reload(clientConfig(second))
	c.Selects(time.Minute, server.IPv4)

	// A key file that others can read is refused, and what is in force stays.
	if err := os.Chmod(second, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Signal(syscall.SIGHUP)
	s.Says(time.Minute, "reload refused")
	if answered(t, client, server.IPv4, question(wire.ModeClient), wire.ModeServer) {
		t.Error("an unsigned request was answered after the reload was refused")
	}
	c.Has(time.Minute, "the client is still answered", func(row peers.Source) bool { return row.At(server.IPv4) && row.Reach == 255 })
}
