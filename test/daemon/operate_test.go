package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"timeball/test/peers"
)

// operate runs a command that changes the daemon and gives what it says.
func (p *daemon) operate(command ...string) (stdout, stderr string, err error) {
	return p.Run(command...)
}

// source is the row of a source's address, from JSON.
func (p *daemon) source(address string) map[string]any {
	answer, err := p.report("sources")
	if err != nil {
		return nil
	}
	for _, row := range answer["sources"].([]any) {
		if row := row.(map[string]any); row["address"] == address {
			return row
		}
	}
	return nil
}

func TestReloadByCommand(t *testing.T) {
	t.Parallel()
	at, second := freePort(t), freePort(t)
	start(t, serverConfig(at, "0s"))
	config := func(more string) string { return clientConfig(at, t.TempDir(), "") + more }
	first := config("")
	p := start(t, first)
	p.until("samples", func() bool { return p.synchronized() })

	p.Configure(first + "# a comment\n" + strings.Repeat("\n", 2))
	if out, _, err := p.operate("reload"); err != nil || !strings.Contains(out, "nothing has changed") {
		t.Errorf("an unchanged configuration: got %q, %v", out, err)
	}

	next := strings.Replace(first, "sources: [", fmt.Sprintf("sources: [{server: \"%s\"}, ", second), 1) + "log: {level: info, format: json}\n"
	p.Configure(next)
	out, _, err := p.operate("reload", "--plan")
	for _, want := range []string{"keep", "start", second.String(), "restart needed: log.format"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("the plan: got %q, %v, want %q in it", out, err, want)
		}
	}
	p.until("the first reload is in the log", func() bool { return p.Said("configuration reloaded") > 0 })
	if p.source(second.String()) != nil || p.Said("configuration reloaded") != 1 {
		t.Error("a plan was carried out")
	}
	if out, _, err = p.operate("reload"); err != nil || !strings.Contains(out, "reloaded") {
		t.Errorf("reload: got %q, %v", out, err)
	}
	p.until("the new source", func() bool { return p.source(second.String()) != nil })

	p.Configure(strings.Replace(next, "min_poll: -3, max_poll: -3", "min_poll: -2, max_poll: -2, max_delay: 1s", 1))
	if out, _, err = p.operate("reload", "--plan"); err != nil || !strings.Contains(out, "changed: min_poll, max_poll, max_delay") {
		t.Errorf("a changed source: got %q, %v, want its keys named", out, err)
	}

	p.Configure("sauces: []\n")
	for _, args := range [][]string{{"reload", "--plan"}, {"reload"}} {
		out, complaint, err := p.operate(args...)
		if status := exitStatus(err); status != 1 || !strings.Contains(complaint, "timeball.yaml:1:1") {
			t.Errorf("%v of a bad file: got status %d, %q, %q, want 1 and the place", args, status, out, complaint)
		}
	}
	// A line may reach the log after the answer has reached the operator.
	p.until("the refused reload is in the log", func() bool { return p.Said("reload refused") > 0 })
	if got := p.Said("reload refused"); got != 1 {
		t.Errorf("got %d refused reloads in the log, want 1: the plan is no reload", got)
	}
}

func exitStatus(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

func TestOfflineOnlineAndBurst(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, serverConfig(at, "0s"))
	p := start(t, fmt.Sprintf("clock: {driver: virtual}\nsources: [{server: \"%s\", min_poll: -3, max_poll: -3}]\n", at))
	samples := func() float64 {
		if row := p.source(at.String()); row != nil {
			return row["samples"].(float64)
		}
		return 0
	}
	p.until("samples", func() bool { return samples() > 4 })
	if out, complaint, err := p.operate("offline"); err != nil || !strings.Contains(out, at.String()) {
		t.Fatalf("offline: got %q, %q, %v", out, complaint, err)
	}
	p.until("the source says that it is offline", func() bool {
		row := p.source(at.String())
		return row != nil && row["offline"] == true && strings.Contains(row["reason"].(string), "offline")
	})
	before := 0.0
	p.until("no more samples come from a source that is offline", func() bool { // the last answer may be on its way
		before = samples()
		time.Sleep(700 * time.Millisecond) // more than five polls
		return before > 0 && samples() == before
	})
	if row := p.source(at.String()); row["reach"].(float64) == 0 {
		t.Error("the reach register was shifted while nothing was asked")
	}
	if out, _, err := p.operate("offline", at.String()); err != nil || !strings.Contains(out, "nothing to change") {
		t.Errorf("offline twice: got %q, %v", out, err)
	}
	if out, _, err := p.operate("online", at.String()); err != nil || !strings.Contains(out, at.String()) {
		t.Errorf("online: got %q, %v", out, err)
	}
	p.until("samples again", func() bool { return samples() > before+2 })
	if _, complaint, err := p.operate("offline", "192.0.2.77"); exitStatus(err) != 1 || !strings.Contains(complaint, "no source") {
		t.Errorf("an unknown source: got %q, %v", complaint, err)
	}
	p.until("the log says who asked for it", func() bool {
		return p.Said("asked for by an operator") >= 3 && p.Said(fmt.Sprintf("uid %d", os.Geteuid())) > 0
	})
}

func TestABurstIsMadeAtOnce(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, serverConfig(at, "0s"))
	p := start(t, fmt.Sprintf("clock: {driver: virtual}\nsources: [{server: \"%s\", min_poll: 10, max_poll: 10, iburst: false}]\n", at))
	sent := func() float64 {
		answer, err := p.report("associations")
		if err != nil {
			return 0
		}
		rows := answer["associations"].([]any)
		if len(rows) == 0 {
			return 0
		}
		return rows[0].(map[string]any)["sent"].(float64)
	}
	p.until("the first poll", func() bool { return sent() == 1 })
	if out, complaint, err := p.operate("burst"); err != nil || !strings.Contains(out, at.String()) {
		t.Fatalf("burst: got %q, %q, %v", out, complaint, err)
	}
	p.until("three more polls, of a source polled every 17 minutes", func() bool { return sent() >= 4 })
}

func TestStepByCommand(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	far := start(t, serverConfig(at, "0s"))
	p := start(t, fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 3s}, step: {updates: 0}, max_slew: 1ppm, panic: 5s}\n"+
		"sources: [{server: \"%s\", min_poll: -3, max_poll: -3}]\n", at))
	offset := func() float64 {
		answer, err := p.report("tracking")
		if err != nil {
			return -1
		}
		o, known := answer["offset"].(float64)
		if !known {
			return -1
		}
		return o
	}
	p.until("the offset is known", func() bool { o := offset(); return o > 2.5 && o < 3.5 })
	if out, complaint, err := p.operate("step"); err != nil || !strings.Contains(out, "+") {
		t.Fatalf("step: got %q, %q, %v", out, complaint, err)
	}
	p.until("after the step the clock is right", func() bool { o := offset(); return o < 0.1 && o > -0.1 })
	far.kill()
	lonely := start(t, "clock: {driver: virtual}\n")
	if _, complaint, err := lonely.operate("step"); exitStatus(err) != 1 || !strings.Contains(complaint, "no usable source") {
		t.Errorf("without a source: got %q, %v", complaint, err)
	}
}

// A socket that everybody may ask lets nobody but root and the group change anything.
func TestOnlyTheGroupMayChangeTheDaemon(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("another user can only be tried by root")
	}
	t.Parallel()
	p := start(t, "clock: {driver: virtual}\nsources: [{server: 127.0.0.9}]\n")
	if err := os.Chmod(p.Socket(), 0o666); err != nil {
		t.Fatal(err)
	}
	for dir := p.Host.Dir; dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil {
			_ = os.Chmod(dir, info.Mode().Perm()|0o055)
		}
	}
	as := func(user, group uint32, command string) (string, error) {
		cmd := exec.Command(binaryCopy(t), command, "--json", "--socket", p.Socket())
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: group}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := as(65534, 65534, "sources"); err != nil || !json.Valid([]byte(out)) {
		t.Fatalf("a report: got %q, %v", out, err)
	}
	for _, command := range []string{"offline", "online", "burst", "step", "reload"} {
		if out, err := as(65534, 65534, command); exitStatus(err) != 1 || !strings.Contains(out, "not allowed") {
			t.Errorf("%s by another user: got %q, %v, want it refused", command, out, err)
		}
	}
	if out, err := as(65534, 0, "offline"); err != nil {
		t.Errorf("by a member of the group: got %q, %v", out, err)
	}
}

// binaryCopy is the program where everybody may run it. Another program copies it: a file that
// this one has open for writing while a parallel test forks is "text file busy" to run.
func binaryCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tbmove")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	_ = os.Chmod(dir, 0o755)
	path := filepath.Join(dir, "timeball")
	if out, err := exec.Command("cp", peers.Binary(t), path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_ = os.Chmod(path, 0o755)
	return path
}

func TestAFallbackIsUsedOnlyWhileNoOtherIs(t *testing.T) {
	t.Parallel()
	main, reserve := freePort(t), freePort(t)
	first := start(t, serverConfig(main, "0s"))
	start(t, serverConfig(reserve, "200ms"))
	p := start(t, fmt.Sprintf("clock: {driver: virtual}\nsources:\n- {server: \"%s\", min_poll: -3, max_poll: -3}\n"+
		"- {server: \"%s\", min_poll: -3, max_poll: -3, fallback: true}\n", main, reserve))
	state := func(of string) any {
		if row := p.source(of); row != nil {
			return row["state"]
		}
		return nil
	}
	p.until("the first is followed and the fallback is not", func() bool {
		return state(main.String()) == "selected" && state(reserve.String()) == "excluded"
	})
	if out, _, err := p.Run("explain", reserve.String()); err != nil || !strings.Contains(out, "fallback") {
		t.Errorf("explain: got %q, %v, want the reason", out, err)
	}
	first.kill()
	p.until("the fallback takes its place", func() bool { return state(reserve.String()) == "selected" })
}

// The file says where the daemon is asked, also one that is refused.
func TestReloadFindsTheSocketOfItsFile(t *testing.T) {
	t.Parallel()
	p := start(t, "clock: {driver: virtual}\n")
	file := filepath.Join(p.Host.Dir, "timeball.yaml")
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, fmt.Appendf(nil, "sauces: []\ncontrol: {socket: %s}\n", p.Socket()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, bad} {
		if out, complaint, err := p.Host.Run(nil, peers.Binary(t), "reload", "--plan", "--config", path); err != nil || !strings.Contains(out, file) {
			t.Errorf("%s: got %q, %q, %v, want the daemon's own file", path, out, complaint, err)
		}
	}
}
