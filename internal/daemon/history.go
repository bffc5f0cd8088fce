package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"timeball/internal/history"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
)

// past is what is remembered of the last week; one goroutine writes it, reports read it.
type past struct {
	mu   sync.Mutex
	ring *history.Ring // nil: nothing is remembered
}

// view reads a span; it reports false where nothing is remembered.
func (p *past) view(span string, now ntptime.Instant) (history.View, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ring == nil {
		return history.View{}, false
	}
	return p.ring.View(span, now), true
}

// keepHistory is a goroutine: it records the state until ctx ends.
func (d *Daemon) keepHistory(ctx context.Context) error {
	if d.history.ring == nil {
		return nil
	}
	d.record()
	return every(ctx, history.Interval, d.record)
}

func (d *Daemon) record() {
	counted := d.ports.Counters()
	served := history.Served{Requests: counted.Received(), Answered: counted.Sum(responder.Answered) + counted.Sum(responder.Interleaved)}
	snapshot, now := d.snapshot.Load(), d.clock.Now()
	d.history.mu.Lock()
	defer d.history.mu.Unlock()
	d.history.ring.Record(snapshot, now, served)
}

// historyReport is a span of what is remembered, the hour if none is named.
func (d *Daemon) historyReport(span string) (any, error) {
	if span == "" {
		span = history.Names()[0]
	}
	if !slices.Contains(history.Names(), span) {
		return nil, fmt.Errorf("there is no span %q; use %s", span, strings.Join(history.Names(), ", "))
	}
	view, remembered := d.history.view(span, d.clock.Now())
	if !remembered {
		return nil, errors.New("nothing is remembered: history.size is 0, or too small")
	}
	return view, nil
}
