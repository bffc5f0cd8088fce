package user

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"timeball/internal/cli"
	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/test/peers"
)

// Keys that keygen makes are taken, and no two are alike (threats 41).
func TestKeysThatKeygenMakesAreTaken(t *testing.T) {
	secrets := map[string]bool{}
	for _, kind := range []string{"md5", "sha1", "sha256", "sha384", "sha512", "aes128-cmac", "aes256-cmac"} {
		for i := range 100 {
			var out, errors bytes.Buffer
			if status := cli.Main([]string{"keygen", "--id", fmt.Sprint(i + 1), "--type", kind}, &out, &errors); status != 0 {
				t.Fatalf("%s: got status %d, want 0: %s", kind, status, errors.String())
			}
			path := filepath.Join(t.TempDir(), "keys.yaml")
			if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			keys, err := config.LoadKeys(path)
			if err != nil || len(keys) != 1 || keys[0].ID != uint32(i+1) || string(keys[0].Type) != kind {
				t.Fatalf("%s: got %v, %v, want the key that was made: %s", kind, keys, err, out.String())
			}
			if secrets[string(keys[0].Secret)] {
				t.Fatalf("%s: the same secret twice", kind)
			}
			secrets[string(keys[0].Secret)] = true
		}
	}
}

// run starts the daemon with a configuration and waits until it answers.
func run(t *testing.T, program, text, socket string) *os.Process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "timeball.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "run", "--config", path)
	var log bytes.Buffer
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(os.Interrupt)
		if err := command.Wait(); err != nil {
			t.Errorf("the daemon ended with %v: %s", err, log.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, err := control.Call(ctx, socket, control.Request{Command: control.CommandPing})
		if err == nil {
			return command.Process
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the daemon does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sockets lists the ports of the IP sockets of a process: of one protocol, as the
// kernel lists them.
func sockets(t *testing.T, pid int, protocol string) (ports []int) {
	t.Helper()
	owned := map[string]bool{}
	descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	inode := regexp.MustCompile(`^socket:\[(\d+)\]$`)
	for _, descriptor := range descriptors {
		if target, err := os.Readlink(descriptor); err == nil {
			if match := inode.FindStringSubmatch(target); match != nil {
				owned[match[1]] = true
			}
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, protocol))
	if err != nil {
		t.Skipf("what sockets there are is not to be seen here: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || !owned[fields[9]] {
			continue
		}
		_, port, _ := strings.Cut(fields[1], ":")
		number, err := strconv.ParseUint(port, 16, 16)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		ports = append(ports, int(number))
	}
	return ports
}

// listening asks the daemon for the ports that it listens at.
func listening(t *testing.T, socket string) (ports []int) {
	t.Helper()
	answer, err := control.Call(t.Context(), socket, control.Request{Command: control.CommandServerStats})
	if err != nil {
		t.Fatal(err)
	}
	var stats control.ServerStats
	if err := json.Unmarshal(answer, &stats); err != nil {
		t.Fatal(err)
	}
	for _, l := range stats.Listeners {
		address, err := netip.ParseAddrPort(l.Address)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, int(address.Port()))
	}
	return ports
}

// threats 6: the only sockets that the network reaches are NTP's.
func TestTheDaemonOpensNTPSocketsOnly(t *testing.T) {
	program := peers.Binary(t)
	for _, test := range []struct {
		name, text string
		serves     bool
	}{
		{"neither sources nor server", "", false},
		{"a server", "server: {listen: [\"127.0.0.1:0\"], workers: 2}\n", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			daemon := run(t, program, test.text+"clock: {driver: virtual}\ncontrol: {socket: "+socket+"}\n", socket)
			found := append(sockets(t, daemon.Pid, "udp"), sockets(t, daemon.Pid, "udp6")...)
			if (len(found) > 0) != test.serves {
				t.Errorf("UDP ports: got %v, want some: %v", found, test.serves)
			}
			for _, port := range found {
				if listens := listening(t, socket); !slices.Contains(listens, port) {
					t.Errorf("UDP port: got %d, want none but %v", port, listens)
				}
			}
			if tcp := append(sockets(t, daemon.Pid, "tcp"), sockets(t, daemon.Pid, "tcp6")...); len(tcp) > 0 {
				t.Errorf("TCP ports: got %v, want none", tcp)
			}
		})
	}
}
