package control

import (
	"context"
	"os"
	"strings"
	"testing"
)

func TestWhoMayChangeTheDaemon(t *testing.T) {
	const user, group = 900, 901
	for _, test := range []struct {
		name  string
		asker Asker
		want  bool
	}{
		{"root", Asker{Known: true, UID: 0, GID: 5}, true},
		{"the daemon's user", Asker{Known: true, UID: user, GID: 5}, true},
		{"the socket's group", Asker{Known: true, UID: 7, GID: group}, true},
		{"a member of it", Asker{Known: true, UID: 7, GID: 5, Groups: []uint32{4, group}}, true},
		{"somebody else", Asker{Known: true, UID: 7, GID: 5, Groups: []uint32{4, 5}}, false},
		{"nobody known, whose numbers are 0", Asker{}, false},
	} {
		if got := test.asker.mayChange(user, group); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// The kernel says who asks, and the handler hears of it, whatever the request claims.
func TestTheKernelSaysWhoAsks(t *testing.T) {
	var heard Asker
	path := start(t, HandlerFunc(func(_ context.Context, r Request) (any, error) { heard = r.Asker; return "done", nil }))
	if _, err := Call(context.Background(), path, Request{Command: CommandBurst}); err != nil {
		t.Fatal(err)
	}
	if !heard.Known || heard.UID != uint32(os.Geteuid()) || heard.PID != int32(os.Getpid()) {
		t.Errorf("got %+v, want uid %d and pid %d", heard, os.Geteuid(), os.Getpid())
	}
	if !strings.Contains(heard.String(), "pid") {
		t.Errorf("got %q, want a line for the log", heard)
	}
}
