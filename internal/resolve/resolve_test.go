package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func addresses(texts ...string) (list []netip.Addr) {
	for _, t := range texts {
		list = append(list, netip.MustParseAddr(t))
	}
	return list
}

// names is a name server that answers from a table, after a time.
func names(table map[string][]netip.Addr, after time.Duration) Lookup {
	return func(ctx context.Context, name string) ([]netip.Addr, error) {
		if !sleep(ctx, after) {
			return nil, ctx.Err()
		}
		if a, ok := table[name]; ok {
			return a, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
}

func TestNameIsResolvedInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := addresses("192.0.2.1", "2001:db8::1")
		r := New(names(map[string][]netip.Addr{"a.example": want}, 30*time.Second))
		defer r.Close()
		start := time.Now()
		r.Resolve("a.example")
		if waited := time.Since(start); waited != 0 {
			t.Errorf("Resolve blocked for %v", waited)
		}
		got := <-r.Results()
		if got.Err != nil || !slices.Equal(got.Addresses, want) || got.Attempt != 1 || got.Retry != 0 {
			t.Errorf("got %+v, want %v", got, want)
		}
		if waited := time.Since(start); waited != 30*time.Second {
			t.Errorf("a slow answer came after %v, want 30s", waited)
		}
	})
}

func TestLiteralAddressComesAtOnceWithoutALookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(func(context.Context, string) ([]netip.Addr, error) {
			t.Error("a literal address was looked up")
			return nil, nil
		})
		defer r.Close()
		start := time.Now()
		for _, literal := range []string{"192.0.2.7", "2001:db8::7", "fe80::1%eth0", "::ffff:192.0.2.8"} {
			r.Resolve(literal)
			want := netip.MustParseAddr(literal).Unmap()
			if got := <-r.Results(); got.Err != nil || len(got.Addresses) != 1 || got.Addresses[0] != want {
				t.Errorf("%s: got %+v", literal, got)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("took %v", waited)
		}
	})
}

func TestFailureIsTriedAgainWithGrowingWaitsToFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(names(nil, 0))
		defer r.Close()
		r.Resolve("gone.example")
		var waits []time.Duration
		last := time.Now()
		for i := range 12 {
			got := <-r.Results()
			if got.Err == nil || got.Attempt != i+1 || !strings.Contains(got.Err.Error(), "resolve gone.example: no such name") {
				t.Fatalf("attempt %d: got %+v", i+1, got)
			}
			if i > 0 {
				waits = append(waits, time.Since(last))
			}
			last = time.Now()
		}
		s := time.Second
		want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 128 * s, 256 * s, 300 * s, 300 * s}
		if !slices.Equal(waits, want) {
			t.Errorf("waits: got %v, want %v", waits, want)
		}
	})
}

func TestNameServerThatComesUpLaterIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(10 * time.Second)
		r := New(func(context.Context, string) ([]netip.Addr, error) {
			if time.Now().Before(up) {
				return nil, errors.New("network is unreachable")
			}
			return addresses("192.0.2.1"), nil
		})
		defer r.Close()
		r.Resolve("late.example")
		for {
			if got := <-r.Results(); got.Err == nil {
				break
			}
		}
		if d := time.Since(up); d > 10*time.Second {
			t.Errorf("resolved %v after the name server came up", d)
		}
	})
}

func TestSilentNameServerIsReportedAfterTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(names(nil, time.Hour))
		defer r.Close()
		start := time.Now()
		r.Resolve("silent.example")
		got := <-r.Results()
		if got.Err == nil || !strings.Contains(got.Err.Error(), "does not answer") || time.Since(start) != timeout {
			t.Errorf("got %v after %v, want silence told after %v", got.Err, time.Since(start), timeout)
		}
	})
}

func TestSlowNamesDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		r := New(func(ctx context.Context, name string) ([]netip.Addr, error) {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer running.Add(-1)
			time.Sleep(30 * time.Second) // heeds no context
			return addresses("192.0.2.1"), nil
		})
		defer r.Close()
		for i := range 100 {
			for range 5 { // asked for again and again: one job each
				r.Resolve(fmt.Sprintf("n%d.example", i))
			}
		}
		seen := map[string]int{}
		for range 100 {
			seen[(<-r.Results()).Name]++
		}
		if len(seen) != 100 || most.Load() > atOnce {
			t.Errorf("got %d names with up to %d look-ups at once, want 100 and %d", len(seen), most.Load(), atOnce)
		}
	})
}

func TestAnswersAreCleanedAndOrdered(t *testing.T) {
	var fifty []netip.Addr
	for i := range 100 {
		fifty = append(fifty, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	both := addresses("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2")
	for _, c := range []struct {
		what   string
		family Family
		found  []netip.Addr
		want   []netip.Addr
	}{
		{"order is kept", AnyFamily, both, both},
		{"IPv4 first", PreferIPv4, both, addresses("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")},
		{"IPv6 first", PreferIPv6, both, addresses("2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2")},
		{"only IPv4", OnlyIPv4, both, addresses("192.0.2.1", "192.0.2.2")},
		{"only IPv6", OnlyIPv6, both, addresses("2001:db8::1", "2001:db8::2")},
		{"doubles go, also mapped ones", AnyFamily, addresses("192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"), addresses("192.0.2.1")},
		{"no groups, no nowhere", AnyFamily, addresses("0.0.0.0", "::", "224.0.1.1", "ff05::101", "192.0.2.1"), addresses("192.0.2.1")},
		{"nobody's addresses (RFC 1112 §4)", AnyFamily, addresses("240.0.0.1", "255.255.255.255", "192.0.2.1", "250.1.2.3"), addresses("192.0.2.1")},
		{"nothing wanted", OnlyIPv6, addresses("192.0.2.1"), nil},
		{"nothing at all", AnyFamily, nil, nil},
		{"many are bounded", AnyFamily, fifty, fifty[:maxAddresses]},
	} {
		r := New(nil)
		r.Prefer(c.family)
		got, err := r.usable("x.example", c.found)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%s: got %v, %v, want %v", c.what, got, err, c.want)
		}
	}
}

func TestAskedAgainTheNameGivesItsNewAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := 0
		r := New(func(context.Context, string) ([]netip.Addr, error) {
			turn++
			return addresses(fmt.Sprintf("192.0.2.%d", turn)), nil
		})
		defer r.Close()
		for i := 1; i <= 3; i++ {
			r.Resolve("moving.example")
			if got := <-r.Results(); got.Addresses[0] != addresses(fmt.Sprintf("192.0.2.%d", i))[0] {
				t.Errorf("turn %d: got %v", i, got.Addresses)
			}
		}
	})
}

func TestForgottenNameIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		r := New(func(ctx context.Context, name string) ([]netip.Addr, error) {
			asked.Add(1)
			return nil, errors.New("refused")
		})
		defer r.Close()
		r.Resolve("gone.example")
		<-r.Results()
		r.Forget("gone.example")
		r.Forget("never.asked")
		synctest.Wait()
		time.Sleep(time.Hour)
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		r.Resolve("gone.example")
		r.Forget("gone.example")
		r.Resolve("gone.example")
		if got := <-r.Results(); got.Attempt != 1 {
			t.Errorf("begun anew: got attempt %d, want 1", got.Attempt)
		}
	})
}

func TestCloseEndsEverythingEvenWithNobodyReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
		r := New(names(nil, time.Second))
		for i := range 50 {
			r.Resolve(fmt.Sprintf("n%d.example", i))
		}
		time.Sleep(time.Minute)
		r.Close()
		r.Resolve("after.example")
		synctest.Wait()
	})
}

// Under the race detector: a Resolve beside Close begins its job before Close waits, or
// not at all, and none is left running.
func TestCloseBesideResolve(t *testing.T) {
	for range 200 { // the window is a few instructions: looked into as well as stormed
		var running atomic.Int32
		r := New(func(ctx context.Context, _ string) ([]netip.Addr, error) {
			running.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		stop := r.stop
		r.stop = func() {
			if r.mu.TryLock() {
				t.Error("the look-ups are stopped while a Resolve may be beginning one")
				r.mu.Unlock()
			}
			stop()
		}
		begin := make(chan struct{})
		var askers sync.WaitGroup
		for i := range 4 {
			askers.Go(func() {
				<-begin
				r.Resolve(fmt.Sprintf("n%d.example", i))
			})
		}
		close(begin)
		r.Close()
		if n := running.Load(); n != 0 {
			t.Fatalf("%d look-ups run on after Close", n)
		}
		askers.Wait()
	}
}
