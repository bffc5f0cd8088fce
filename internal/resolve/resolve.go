// Package resolve turns names into addresses in the background. A name server that is
// slow, dead or not yet there at boot blocks nothing and ends nothing: each name has at
// most one look-up under way, and is tried again with growing waits until it answers.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Lookup asks for the addresses of a name. It should come back when ctx ends; one
// that does not keeps its name, and one of the look-ups at a time, to itself until then.
type Lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// System is the system's resolver.
func System(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// Family says which addresses are wanted.
type Family uint8

// The families. AnyFamily leaves the order as the resolver gives it.
const (
	AnyFamily Family = iota
	PreferIPv4
	PreferIPv6
	OnlyIPv4
	OnlyIPv6
)

// The waits between attempts for one name: FirstWait, doubled up to LongestWait.
const (
	FirstWait   = time.Second
	LongestWait = 5 * time.Minute
)

const (
	timeout      = time.Minute // for one look-up; slow resolvers take half of it
	atOnce       = 8           // look-ups under way together
	maxAddresses = 64          // kept of one answer
)

// Result is the outcome of one attempt. With an error the name is tried again after
// Retry; without one its job is done, until Resolve is called again.
type Result struct {
	Name      string
	Addresses []netip.Addr // not empty, no doubles, usable to send to; in order of preference
	Err       error
	Retry     time.Duration // wait before the next attempt, 0 if there is none
	Attempt   int           // from 1
}

// Resolver runs the look-ups.
type Resolver struct {
	lookup  Lookup
	family  Family
	results chan Result   // capacity 16; a job waits when it is full
	slots   chan struct{} // capacity atOnce: a look-up holds one

	mu   sync.Mutex
	jobs map[string]*job // by name, those under way
	ctx  context.Context
	stop context.CancelFunc
	wait sync.WaitGroup
}

// job is the work on one name.
type job struct {
	name   string
	cancel context.CancelFunc
}

// New returns a resolver that wants any family; Close ends it.
func New(lookup Lookup) *Resolver {
	ctx, stop := context.WithCancel(context.Background())
	return &Resolver{
		lookup:  lookup,
		results: make(chan Result, 16),
		slots:   make(chan struct{}, atOnce),
		jobs:    make(map[string]*job),
		ctx:     ctx,
		stop:    stop,
	}
}

// Prefer says which family is wanted; to be called before the first Resolve.
func (r *Resolver) Prefer(f Family) { r.family = f }

// Results is where the outcomes come; it has one reader and is never closed.
func (r *Resolver) Results() <-chan Result { return r.results }

// Resolve begins to look a name up, unless that is under way already. It does not
// wait. A literal address is its own result, at once.
func (r *Resolver) Resolve(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, running := r.jobs[name]; running || r.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	j := &job{name: name, cancel: cancel}
	r.jobs[name] = j
	r.wait.Go(func() { // ends with its first good answer, Forget or Close
		defer cancel()
		r.run(ctx, j)
	})
}

// Forget ends the look-up of a name; a result already sent may still be read.
func (r *Resolver) Forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j, ok := r.jobs[name]; ok {
		j.cancel()
		delete(r.jobs, name) // Resolve may begin anew at once
	}
}

// Close ends all look-ups and waits for those that heed their context. Resolve may be
// called meanwhile and after; it does nothing then.
func (r *Resolver) Close() {
	r.mu.Lock() // a Resolve meanwhile has begun its job before the wait, or begins none
	r.stop()
	r.mu.Unlock()
	r.wait.Wait()
}

// run tries until there is an answer.
func (r *Resolver) run(ctx context.Context, j *job) {
	wait := FirstWait
	for attempt := 1; ; attempt++ {
		result := Result{Name: j.name, Attempt: attempt}
		result.Addresses, result.Err = r.ask(ctx, j.name)
		if result.Err == nil {
			r.done(j) // before the result: its reader may ask again at once
			r.deliver(ctx, result)
			return
		}
		result.Retry = wait
		if !r.deliver(ctx, result) || !sleep(ctx, wait) {
			r.done(j)
			return
		}
		wait = min(2*wait, LongestWait)
	}
}

// done takes the job off the list, if its name has no newer one.
func (r *Resolver) done(j *job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.jobs[j.name] == j {
		delete(r.jobs, j.name)
	}
}

func (r *Resolver) deliver(ctx context.Context, result Result) bool {
	if ctx.Err() != nil { // forgotten: select would toss a coin
		return false
	}
	select {
	case r.results <- result:
		return true
	case <-ctx.Done():
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ask makes one attempt.
func (r *Resolver) ask(ctx context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return r.usable(name, []netip.Addr{a})
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := r.lookup(ctx, name)
	if err != nil {
		return nil, Describe(name, err)
	}
	return r.usable(name, found)
}

// Describe says in one line what went wrong with a look-up, without the resolver's own address twice.
func Describe(name string, err error) error {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("resolve %s: no such name", name)
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &dns) && dns.IsTimeout:
		return fmt.Errorf("resolve %s: the name server does not answer", name)
	}
	return fmt.Errorf("resolve %s: %w", name, err)
}

// usable drops what cannot be sent to (threats 22: a poisoned answer is not followed
// to a group or to nowhere), doubles, and the families not wanted, then puts the
// preferred family first. The order is otherwise the resolver's (RFC 6724).
func (r *Resolver) usable(name string, found []netip.Addr) ([]netip.Addr, error) {
	var kept []netip.Addr
	for _, a := range found {
		a = a.Unmap()
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || reserved.Contains(a) || !r.wants(a) || slices.Contains(kept, a) {
			continue
		}
		if kept = append(kept, a); len(kept) == maxAddresses {
			break
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("resolve %s: none of its %d addresses is usable", name, len(found))
	}
	slices.SortStableFunc(kept, func(a, b netip.Addr) int { return r.rank(a) - r.rank(b) })
	return kept, nil
}

// reserved holds addresses that no machine has, the limited broadcast among them
// (RFC 1112 §4, RFC 6890 §2.2.2).
var reserved = netip.MustParsePrefix("240.0.0.0/4")

func (r *Resolver) wants(a netip.Addr) bool {
	return !(r.family == OnlyIPv4 && a.Is6() || r.family == OnlyIPv6 && a.Is4())
}

// rank is 0 for the family preferred, 1 for the other.
func (r *Resolver) rank(a netip.Addr) int {
	if r.family == PreferIPv4 && a.Is6() || r.family == PreferIPv6 && a.Is4() {
		return 1
	}
	return 0
}
