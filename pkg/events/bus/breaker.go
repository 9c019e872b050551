package bus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// BreakerConfig says when a group takes its failures for one outage instead of many bad events.
type BreakerConfig struct {
	Keys     int           // so many keys that fail for one cause within Window, and nothing that succeeds, open it; default 20, negative: never
	Window   time.Duration // default 30 s
	MinProbe time.Duration // before the first probe of an open breaker; default 1 s
	MaxProbe time.Duration // between two probes at most; default 30 s
}

func (c BreakerConfig) withDefaults() BreakerConfig {
	setDefault(&c.Keys, 20)
	setDefault(&c.Window, 30*time.Second)
	setDefault(&c.MinProbe, time.Second)
	setDefault(&c.MaxProbe, 30*time.Second)
	return c
}

// breaker pauses a group, all partitions of a member together, while what fails is not the events: a fingerprint on many keys with no success between, or an
// error that says so itself ([fail.Infra], a broker that does not answer). While it is open, nothing is parked and nothing counts as a try. One event at a time is tried, after
// a wait that grows; its success lets all go on.
type breaker struct {
	cfg  BreakerConfig
	open atomic.Bool // looked at before each call of a handler
	warm atomic.Bool // failures are noted that a success must forget

	mu      sync.Mutex
	causes  map[string]map[string]time.Time // by fingerprint and key: when it failed last
	why     string
	since   time.Time
	probing bool
	next    time.Time
	wait    time.Duration
	closed  chan struct{} // closed when the breaker closes
	changed func(open bool)
}

func newBreaker(cfg BreakerConfig, changed func(open bool)) *breaker {
	return &breaker{cfg: cfg, causes: make(map[string]map[string]time.Time), changed: changed}
}

// status says why the group pauses, or nil.
func (b *breaker) status() error {
	if !b.open.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Errorf("paused since %s, probing every %s: %s", b.since.Format(time.RFC3339), b.wait, b.why)
}

// await waits while the breaker is open. probe: the caller is the one to try; it must tell what came of it. err: ctx ended.
func (b *breaker) await(ctx context.Context, every time.Duration, alive func()) (probe bool, err error) {
	for {
		closed, wait := b.turn()
		if closed == nil {
			return wait == 0, nil
		}
		timer := time.NewTimer(min(wait, every))
		select {
		case <-closed:
			timer.Stop()
			return false, nil
		case <-timer.C:
			alive()
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		}
	}
}

// rest waits while the breaker is open, for one who has nothing to try.
func (b *breaker) rest(ctx context.Context, every time.Duration, alive func()) error {
	for b.open.Load() {
		b.mu.Lock()
		closed := b.closed
		b.mu.Unlock()
		timer := time.NewTimer(every)
		select {
		case <-closed:
		case <-timer.C:
			alive()
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// turn is nil where the caller may go on: with a wait of 0 as the probe, else because the breaker is closed.
func (b *breaker) turn() (closed <-chan struct{}, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open.Load() {
		return nil, 1
	}
	wait = time.Until(b.next)
	if b.probing {
		return b.closed, b.cfg.MinProbe
	}
	if wait > 0 {
		return b.closed, wait
	}
	b.probing = true
	return nil, 0
}

// succeeded forgets failures and closes the breaker.
func (b *breaker) succeeded() {
	if !b.warm.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.warm.Store(false)
	clear(b.causes)
	if b.open.Load() {
		b.open.Store(false)
		b.probing = false
		close(b.closed)
		b.changed(false)
	}
}

// outage opens the breaker at once.
func (b *breaker) outage(probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trip(probe, err.Error())
}

// failed notes a failure and reports whether the group pauses now.
func (b *breaker) failed(probe bool, fingerprint, key string, err error) bool {
	if b.cfg.Keys < 0 && !b.open.Load() {
		return false
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.warm.Store(true)
	keys := b.causes[fingerprint]
	if keys == nil {
		if len(b.causes) > 1000 { // many causes are no one cause
			clear(b.causes)
		}
		keys = make(map[string]time.Time)
		b.causes[fingerprint] = keys
	}
	keys[key] = now
	for k, at := range keys {
		if now.Sub(at) > b.cfg.Window {
			delete(keys, k)
		}
	}
	if probe || b.open.Load() || b.cfg.Keys > 0 && len(keys) >= b.cfg.Keys {
		b.trip(probe, fmt.Sprintf("%d keys failed for one cause (%s) and nothing succeeded: %v", len(keys), fingerprint, err))
	}
	return b.open.Load()
}

// giveBack takes note of a probe that had no outcome.
func (b *breaker) giveBack(probe bool) {
	if !probe {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

func (b *breaker) trip(probe bool, why string) {
	b.warm.Store(true)
	switch {
	case !b.open.Load():
		b.open.Store(true)
		b.closed = make(chan struct{})
		b.since, b.wait, b.probing = time.Now(), b.cfg.MinProbe, false
		b.changed(true)
	case probe:
		b.wait, b.probing = min(2*b.wait, b.cfg.MaxProbe), false
	default: // it was under way when the breaker opened
		return
	}
	b.why = why
	b.next = time.Now().Add(jitter(b.wait))
}
