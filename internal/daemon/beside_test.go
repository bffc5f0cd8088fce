package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"timeball/internal/metrics"
)

// faulty is a listener whose first accepts fail.
type faulty struct {
	net.Listener
	left atomic.Int32
	err  error
}

func (l *faulty) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", l.err)}
	}
	return l.Listener.Accept()
}

// An error of accept ends neither the metrics nor the daemon.
func TestErrorsOfAcceptEndNothing(t *testing.T) {
	for _, errno := range []syscall.Errno{
		syscall.ENOMEM, syscall.ENOBUFS, syscall.EPERM, syscall.EPROTO, syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.EIO,
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &faulty{Listener: inner, err: errno}
			l.left.Store(4)
			ctx, cancel := context.WithCancel(context.Background())
			g := newGroup(ctx)
			m := &metricsService{listener: l, server: metrics.NewServer(http.NotFoundHandler()), failed: func(name string, err error) { t.Errorf("%s: %v", name, err) }}
			m.start(g)
			reply, err := http.Get("http://" + inner.Addr().String() + "/")
			if err != nil || reply.StatusCode != http.StatusNotFound {
				t.Errorf("got %v, %v, want an answer after the errors", reply, err)
			}
			if err := context.Cause(g.ctx); err != nil {
				t.Errorf("the daemon has ended: %v", err)
			}
			cancel()
			if err := g.Wait(); err != nil {
				t.Errorf("the end: %v", err)
			}
		})
	}
}

// What is beside the clock fails, begins again, and ends nothing.
func TestWorkBesideTheClockEndsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	g := newGroup(ctx)
	rounds, told := make(chan int, 8), make(chan error, 8)
	round := 0
	g.GoBeside("a report", func(ctx context.Context) error {
		round++
		rounds <- round
		if round < 3 {
			return fmt.Errorf("round %d", round)
		}
		<-ctx.Done()
		return nil
	}, func(_ string, err error) { told <- err })
	for want := 1; want <= 3; want++ {
		select {
		case got := <-rounds:
			if got != want {
				t.Errorf("got round %d, want %d", got, want)
			}
		case <-time.After(patience):
			t.Fatal("the work did not begin again")
		}
	}
	if len(told) != 2 || context.Cause(g.ctx) != nil {
		t.Errorf("got %d told, cause %v; want 2, and nothing ended", len(told), context.Cause(g.ctx))
	}
	cancel()
	if err := g.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
}
