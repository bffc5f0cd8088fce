package xdp

import (
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"timeball/internal/wire"
)

// loaded is the program in this machine's kernel, or the test is skipped.
func loaded(t testing.TB) *Program {
	t.Helper()
	p, err := Load(true)
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) || errors.Is(err, unix.EFAULT) {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("no BPF here: ", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestLoad(t *testing.T) {
	loaded(t)
	p, err := Load(false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if err := p.Update(&State{At: Monotonic(), Valid: time.Second, Reply: wire.Header{Stratum: 2}}); err != nil {
		t.Fatal(err)
	}
	if c, err := p.Counters(); err != nil || c != (Counters{}) {
		t.Errorf("counters of a program that has seen nothing: %+v %v", c, err)
	}
}
