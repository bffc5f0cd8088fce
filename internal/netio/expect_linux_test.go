package netio

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"timeball/internal/model"
)

// expecting is a Handler that checks that every sender was announced.
type expecting struct {
	handlerFunc
	announced []netip.AddrPort
	largest   atomic.Int64
	strangers atomic.Int64
}

func (f *expecting) Expect(remotes []netip.AddrPort) {
	f.announced = append(f.announced[:0], remotes...)
	f.largest.Store(max(f.largest.Load(), int64(len(remotes))))
}

func (f *expecting) Handle(rx *model.Received, _ time.Duration, reply []byte) (int, Token) {
	if i := slices.Index(f.announced, rx.Remote); i >= 0 {
		f.announced = slices.Delete(f.announced, i, i+1)
	} else if len(f.announced) > 0 {
		f.strangers.Add(1) // of a batch, but not announced with it
	}
	return f.handlerFunc(rx, reply), Token{}
}

func TestHandlerIsToldWhoWaitsBeforeItAnswersTheFirst(t *testing.T) {
	h := &expecting{handlerFunc: echo}
	p, err := Listen(patient())
	if err != nil {
		t.Fatal(err)
	}
	conn := flood(t, p.LocalAddr(), 40)
	var serving sync.WaitGroup
	serving.Go(func() { _ = p.Serve(0, h) })
	defer serving.Wait()
	defer p.Close()
	buffer := make([]byte, 100)
	for range 40 {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(buffer); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.largest.Load(); got != batchSize {
		t.Errorf("got at most %d senders at once, want %d", got, batchSize)
	}
	if got := h.strangers.Load(); got != 0 {
		t.Errorf("got %d requests of a batch that were not announced, want none", got)
	}
}
