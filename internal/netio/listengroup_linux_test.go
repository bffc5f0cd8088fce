package netio

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"timeball/internal/model"
)

// heard passes on what a handler receives.
type heard struct {
	handlerFunc
	data chan string
}

func (h heard) Handle(rx *model.Received, _ time.Duration, _ []byte) (int, Token) {
	h.data <- string(rx.Data)
	return 0, Token{}
}

func TestListenGroupSharesOneGroupAmongSeveralSockets(t *testing.T) {
	for _, group := range []string{"224.0.1.1", "127.255.255.255"} {
		t.Run(group, func(t *testing.T) {
			sender, err := Listen(ListenConfig{Address: netip.MustParseAddrPort("127.0.0.1:0")})
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			to := netip.AddrPortFrom(netip.MustParseAddr(group), sender.LocalAddr().Port())
			handlers := [2]heard{}
			for i := range handlers {
				port, err := ListenGroup(ListenConfig{Address: to}, "lo")
				if err != nil {
					t.Fatal(err)
				}
				defer port.Close()
				handlers[i].data = make(chan string, 1)
				go func() { _ = port.Serve(0, handlers[i]) }()
			}
			if _, err := sender.Send([]byte("the time"), to, netip.MustParseAddr("127.0.0.1"), 1, Token{}); err != nil {
				t.Fatal(err)
			}
			for i := range handlers {
				if got, want := <-handlers[i].data, "the time"; got != want {
					t.Errorf("socket %d: got %q, want %q", i, got, want)
				}
			}
		})
	}
}

func TestListenGroupHearsALinkLocalGroup(t *testing.T) {
	inNamespace(t)
	near, _ := newPeer(t)
	ip(t, "addr add fe80::7/64 dev near nodad")
	sender := listenAt(t, ListenConfig{Address: netip.MustParseAddrPort("[fe80::7%near]:0")}, echo)
	to := netip.AddrPortFrom(netip.MustParseAddr("ff02::101"), sender.LocalAddr().Port())
	port, err := ListenGroup(ListenConfig{Address: to}, "near")
	if err != nil {
		t.Fatal(err)
	}
	got := make(collector, 1)
	var serving sync.WaitGroup
	serving.Go(func() { _ = port.Serve(0, got) })
	if _, err := sender.Send(message(6), to, netip.MustParseAddr("fe80::7"), near, Token{}); err != nil {
		t.Fatal(err)
	}
	if rx := got.next(t); rx.Data[47] != 6 || rx.Local != to.Addr() {
		t.Errorf("received %d for %s, want 6 for %s", rx.Data[47], rx.Local, to.Addr())
	}
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	serving.Wait()
}
