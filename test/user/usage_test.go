package user

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

func TestMain(m *testing.M) { peers.Main(m) }

// exits runs the program and gives its exit status and what it said on stderr.
func exits(t *testing.T, args ...string) (status int, complaint string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, peers.Binary(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return peers.ExitStatus(err), strings.TrimSpace(stderr.String())
}

// Wrong usage ends with 64 in every command, in one line and before anything is asked: 2
// is how a Go program crashes, and 1 says that the thing asked for is not so.
func TestWrongUsageEndsWith64InEveryCommand(t *testing.T) {
	for _, line := range []string{
		"foo", "--nosuch", "-x", "help nosuch", "completion", "completion foo", "completion bash extra",
		"run extra", "run --nosuch", "check extra", "keygen --type foo", "keygen --id 0", "keygen --id -1", "keygen extra",
		"status extra", "status --interval -1s", "status --interval 5", "status --json=foo", "sources extra", "explain a b", "tracking extra",
		"associations extra", "trace extra", "serverstats extra",
		"clients --order foo", "clients --order=", "clients --count 0", "clients --count -1", "clients --count 1000000", "clients --count x",
		"wait --timeout -1s", "wait --timeout 5", "wait --max-error -1us", "wait --max-error 1e-20s", "wait extra",
		"query", "query --count 0 h", "query --count x h", "query --version 9 h", "query --version 0 h", "query --source foo 127.0.0.1",
		"query 127.0.0.1:99999", "query host:ntp", "query :123", "query [::1]:0",
		"lab", "lab a b", "lab --duration -5s x", "simulate", "simulate a b", "simulate --runs -1 x", "simulate --seed -5 x",
		"simulate --parallel -3 x", "version extra",
	} {
		status, complaint := exits(t, strings.Fields(line)...)
		if status != 64 || complaint == "" || strings.Contains(complaint, "\n") {
			t.Errorf("timeball %s: got status %d and %q, want 64 and one line", line, status, complaint)
		}
	}
	if status, complaint := exits(t, "query", ""); status != 64 {
		t.Errorf("query of an empty name: got status %d and %q, want 64", status, complaint)
	}
}

// What is right usage but not so ends with 1.
func TestWhatIsNotSoEndsWith1(t *testing.T) {
	for _, line := range []string{
		"status --socket /nonexistent/socket", "clients --order drops --socket /nonexistent/socket", "check --config /nonexistent/file",
		"run --config /nonexistent/file", "lab /nonexistent/file", "simulate /nonexistent/file", "wait --timeout 1e-02s --socket /nonexistent/socket",
	} {
		if status, complaint := exits(t, strings.Fields(line)...); status != 1 || complaint == "" {
			t.Errorf("timeball %s: got status %d and %q, want 1 and a line", line, status, complaint)
		}
	}
}
