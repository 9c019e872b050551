package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// version is one version of a read model in this process: the model and how far the logs are folded into it, which always change together.
type version[M Model] struct {
	number uint64
	of     *Projection[M]
	record Version

	mu      sync.Mutex
	model   M
	at      []uint64 // by log
	skipped map[string]uint64
	parked  []Parked
	behind  map[string]struct{} // subjects with a parked event, by stream and subject
	strict  bool                // an event that can't be folded ends the reading
	counted int                 // events since it was last stored
	hold    *hold               // while it must not go on
	moved   chan struct{}       // closed by the next fold; nil while nobody waits for it
	failed  error
	left    int // logs that are not read to their ends yet

	caughtUp chan struct{}
	ended    chan struct{} // nothing reads any more
	stop     context.CancelFunc

	saving sync.Mutex
	stored kept // the last manifest that was read or written
}

// hold lets a version fold up to a position and no further.
type hold struct {
	until    []uint64
	released chan struct{}
}

// Parked is an event that a live version has passed over because it can't be folded, or because an earlier event of its subject could not.
type Parked struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Subject  string `json:"subject"`
	Type     string `json:"type,omitempty"`
	Error    string `json:"error"`
}

const (
	maxSkippedTypes  = 100 // that are told apart
	otherTypes       = "other"
	maxParkedError   = 300 // bytes
	followedByParked = "an earlier event of its subject is parked"
)

func (p *Projection[M]) newVersion(r Version) *version[M] {
	return &version[M]{
		number: r.Number, of: p, record: r, model: p.cfg.New(), at: make([]uint64, len(p.cfg.Logs)), skipped: make(map[string]uint64), behind: make(map[string]struct{}),
		strict: r.Strict, left: len(p.cfg.Logs), caughtUp: make(chan struct{}), ended: make(chan struct{}),
	}
}

// start reads the logs behind the version's position, each in a goroutine.
func (v *version[M]) start(ctx context.Context) {
	ctx, v.stop = context.WithCancel(ctx)
	var all sync.WaitGroup
	for i, log := range v.of.cfg.Logs {
		all.Go(func() {
			if err := v.follow(ctx, i, log); err != nil {
				v.fail(fmt.Errorf("follow %s: %w", log.stream, err))
				v.stop()
			}
		})
	}
	v.of.readers.Go(func() {
		all.Wait()
		close(v.ended)
	})
}

func (v *version[M]) follow(ctx context.Context, i int, log *Store) error {
	f := &follower{
		store: log, next: v.at[i] + 1,
		fn: func(r Recorded) error { return v.take(ctx, i, r, nil) },
		undecodable: func(m jetstream.RawStreamMsg, err error) error {
			return v.take(ctx, i, Recorded{Stream: log.stream, Subject: m.Subject, Sequence: m.Sequence}, err)
		},
		caughtUp: sync.OnceFunc(v.oneCaughtUp),
	}
	err := f.run(ctx)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the error says that it was stopped
	}
	return err
}

func (v *version[M]) oneCaughtUp() {
	v.mu.Lock()
	v.left--
	last, changed := v.left == 0, v.counted > 0
	v.mu.Unlock()
	if last {
		close(v.caughtUp)
	}
	if last && changed { // the next start need not read it again
		v.of.wantSave(v)
	}
}

// take folds one event, or waits until it may.
func (v *version[M]) take(ctx context.Context, i int, r Recorded, undecodable error) error {
	v.mu.Lock()
	for v.hold != nil && r.Sequence > v.hold.until[i] {
		released := v.hold.released
		v.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return ctx.Err()
		}
		v.mu.Lock()
	}
	defer v.mu.Unlock()
	if r.Sequence <= v.at[i] {
		return nil
	}
	if err := v.fold(ctx, r, undecodable); err != nil {
		return err
	}
	v.at[i] = r.Sequence
	if v.moved != nil {
		close(v.moved)
		v.moved = nil
	}
	if v.counted++; v.due() {
		v.of.wantSave(v)
	}
	return nil
}

// fold folds one event, skips it, or parks it.
func (v *version[M]) fold(ctx context.Context, r Recorded, err error) error {
	if len(v.behind) > 0 {
		if _, behind := v.behind[r.Stream+" "+r.Subject]; behind {
			return v.park(ctx, r, followedByParked)
		}
	}
	if err == nil {
		err = v.model.Fold(r)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, events.ErrUnknownType):
		v.skip(ctx, r.Type)
		return nil
	case v.strict:
		return fmt.Errorf("%w: %s, sequence %d: %w", ErrFold, r.Stream, r.Sequence, err)
	}
	return v.park(ctx, r, err.Error())
}

func (v *version[M]) skip(ctx context.Context, eventType string) {
	if _, known := v.skipped[eventType]; !known && len(v.skipped) >= maxSkippedTypes {
		eventType = otherTypes
	}
	v.skipped[eventType]++
	v.of.metrics.skip(ctx, eventType)
}

// park passes over an event, and over those of its subject that follow: they mean nothing without it. The log keeps them all; a rebuild folds them when the fold can.
func (v *version[M]) park(ctx context.Context, r Recorded, why string) error {
	if len(v.parked) >= v.of.cfg.MaxParked {
		return fmt.Errorf("%w: %s, sequence %d: %s; %d events are parked already, the first is sequence %d of %s: %s", ErrFold, r.Stream, r.Sequence, why,
			len(v.parked), v.parked[0].Sequence, v.parked[0].Stream, v.parked[0].Error)
	}
	if len(why) > maxParkedError {
		why = why[:maxParkedError]
	}
	v.parked = append(v.parked, Parked{Stream: r.Stream, Sequence: r.Sequence, Subject: r.Subject, Type: r.Type, Error: why})
	v.behind[r.Stream+" "+r.Subject] = struct{}{}
	v.of.log.LogAttrs(ctx, slog.LevelWarn, "an event can't be folded and is parked", slog.Uint64("version", v.number), slog.String("stream", r.Stream),
		slog.Uint64("sequence", r.Sequence), slog.String("type", r.Type), slog.String("cause", why))
	return nil
}

// fail ends the reading for good.
func (v *version[M]) fail(err error) {
	v.mu.Lock()
	first := v.failed == nil
	if first {
		v.failed = err
	}
	if v.moved != nil {
		close(v.moved)
		v.moved = nil
	}
	v.mu.Unlock()
	if first {
		v.of.failedIn(v, err)
	}
}

// where is the position by stream. The caller holds mu.
func (v *version[M]) where() map[string]uint64 {
	at := make(map[string]uint64, len(v.at))
	for i, log := range v.of.cfg.Logs {
		at[log.stream] = v.at[i]
	}
	return at
}

// behindFactor: while the logs are read for the first time, fewer snapshots are written, since reading is what it is about.
const behindFactor = 25

// due reports whether it is time to store the version. The caller holds mu.
func (v *version[M]) due() bool {
	every := v.of.cfg.SaveEvery
	if v.left > 0 {
		every *= behindFactor
	}
	return every > 0 && v.counted >= every
}

// await waits until the version has folded up to the position, at least.
func (v *version[M]) await(ctx context.Context, until []uint64) error {
	for {
		v.mu.Lock()
		reached := true
		for i := range until {
			reached = reached && v.at[i] >= until[i]
		}
		err := v.failed
		if reached || err != nil {
			v.mu.Unlock()
			return err
		}
		if v.moved == nil {
			v.moved = make(chan struct{})
		}
		moved := v.moved
		v.mu.Unlock()
		select {
		case <-moved:
		case <-v.ended:
			return fmt.Errorf("%w: version %d is not read any more", ErrNotReady, v.number)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitCaughtUp waits until the version has read the logs to what was their end when it began.
func (v *version[M]) awaitCaughtUp(ctx context.Context) error {
	select {
	case <-v.caughtUp:
		return nil
	case <-v.ended:
	case <-ctx.Done():
		return fmt.Errorf("%w: version %d is being built", ErrNotReady, v.number)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return fmt.Errorf("%w: version %d: %w", ErrNotReady, v.number, v.failed)
	}
	return fmt.Errorf("%w: version %d is not read any more", ErrNotReady, v.number)
}

// meetTimeout is how long two versions that have caught up may need to come to the same position.
const meetTimeout = 10 * time.Second

// meet stops two versions at the same position, until release is called. What comes meanwhile waits in the log.
func meet[M Model](ctx context.Context, a, b *version[M]) (release func(), err error) {
	h := &hold{until: make([]uint64, len(a.at)), released: make(chan struct{})}
	both := [2]*version[M]{a, b}
	for _, v := range both {
		v.mu.Lock()
	}
	for i := range h.until {
		h.until[i] = max(a.at[i], b.at[i])
	}
	for _, v := range both {
		v.hold = h
		v.mu.Unlock()
	}
	release = func() {
		for _, v := range both {
			v.mu.Lock()
			v.hold = nil
			v.mu.Unlock()
		}
		close(h.released)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, meetTimeout, fmt.Errorf("%w: the versions did not come to the same position within %s", ErrNotReady, meetTimeout))
	defer cancel()
	for _, v := range both {
		if err := v.await(ctx, h.until); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// state is what a manifest says of a version. The caller holds mu.
func (v *version[M]) state() (at map[string]uint64, skipped map[string]uint64, parked []Parked) {
	return v.where(), maps.Clone(v.skipped), append([]Parked(nil), v.parked...)
}
