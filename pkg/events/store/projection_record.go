package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// Version is what is recorded of one version of a read model.
type Version struct {
	Number uint64    `json:"number"`
	Fold   int       `json:"fold"`   // of the program that began it
	Layout int       `json:"layout"` // of its stored parts
	Strict bool      `json:"strict"` // while it is built, an event that can't be folded ends it
	Begun  time.Time `json:"begun"`
}

// record says which versions there are and which of them answers. It is one value of the bucket, written under a lock on its revision and watched by every process that keeps the read model: to change
// it is to swap.
type record struct {
	Live     uint64    `json:"live"`
	Previous uint64    `json:"previous,omitempty"` // the one that answered before, kept to go back to
	Next     uint64    `json:"next,omitempty"`     // the one that is built beside the live one
	Newest   uint64    `json:"newest"`             // the highest number that was given out
	Versions []Version `json:"versions"`

	revision uint64
}

func (r record) version(number uint64) (Version, bool) {
	i := slices.IndexFunc(r.Versions, func(v Version) bool { return v.Number == number })
	if i < 0 {
		return Version{}, false
	}
	return r.Versions[i], true
}

// add gives out the next number.
func (r *record) add(fold, layout int, strict bool) Version {
	r.Newest++
	v := Version{Number: r.Newest, Fold: fold, Layout: layout, Strict: strict, Begun: time.Now().UTC()}
	r.Versions = append(slices.Clone(r.Versions), v)
	return v
}

// tidy forgets versions without a role, and returns their numbers.
func (r *record) tidy() (dropped []uint64) {
	kept := []Version{}
	for _, v := range r.Versions {
		if v.Number == r.Live || v.Number == r.Previous || v.Number == r.Next {
			kept = append(kept, v)
		} else {
			dropped = append(dropped, v.Number)
		}
	}
	r.Versions = kept
	return dropped
}

// swap makes a version the live one; the one that was live is kept.
func (r *record) swap(to uint64) {
	r.Previous, r.Live = r.Live, to
	if r.Next == to {
		r.Next = 0
	}
}

// errMoved: another process has changed what was to be changed.
var errMoved = errors.New("another process was first")

func (p *Projection[M]) readRecord(ctx context.Context) (record, error) {
	var r record
	revision, err := p.getJSON(ctx, p.cfg.Name, &r)
	if err != nil {
		return record{}, fmt.Errorf("read which version is live: %w", err)
	}
	r.revision = revision
	return r, nil
}

// writeRecord replaces the record that was read.
func (p *Projection[M]) writeRecord(ctx context.Context, r *record) error {
	revision, err := p.putJSON(ctx, p.cfg.Name, r, r.revision)
	if err != nil {
		return fmt.Errorf("write which version is live: %w", err)
	}
	r.revision = revision
	return nil
}

// changeRecord reads, changes and writes, again where another process was first.
func (p *Projection[M]) changeRecord(ctx context.Context, change func(*record) error) (record, error) {
	for {
		r, err := p.readRecord(ctx)
		if err != nil {
			return record{}, err
		}
		if err := change(&r); err != nil {
			return record{}, err
		}
		if err := p.writeRecord(ctx, &r); !errors.Is(err, errMoved) {
			return r, err
		}
	}
}

// getJSON reads a value of the bucket and its revision: 0 where there is none.
func (p *Projection[M]) getJSON(ctx context.Context, key string, into any) (uint64, error) {
	data, revision, err := p.value(ctx, key)
	if err != nil || revision == 0 {
		return 0, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return 0, fmt.Errorf("value %s: %w", key, err)
	}
	return revision, nil
}

// value reads a value as the leader knows it. The client's own Get asks any replica: who has just changed the record, or been told that it changed, might read the one before.
func (p *Projection[M]) value(ctx context.Context, key string) (data []byte, revision uint64, err error) {
	m, err := p.values.messages.FromLeader(ctx, lookup.Request{LastBySubject: "$KV." + p.deps.Versions + "." + key}) // NATS ADR-8
	switch {
	case notFound(err):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	case m.Header.Get("KV-Operation") != "": // deleted
		return nil, 0, nil
	}
	return m.Data, m.Sequence, nil
}

// putJSON writes a value of the bucket if its revision is still the one given. A refusal may be the echo of our own write whose answer was lost, so what is there then is looked
// at. The error wraps errMoved where it is another one's.
func (p *Projection[M]) putJSON(ctx context.Context, key string, value any, revision uint64) (uint64, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return 0, err
	}
	now, err := p.bucket.Update(ctx, key, data, revision) // 0: only if there is none
	if err == nil {
		return now, nil
	}
	there, now, readErr := p.value(ctx, key)
	switch {
	case readErr != nil:
		return 0, errors.Join(err, readErr)
	case now == 0, now == revision:
		return 0, err
	case sameJSON(there, data):
		return now, nil
	}
	return 0, fmt.Errorf("%w: %w", errMoved, err)
}

func sameJSON(a, b []byte) bool {
	var left, right any
	return json.Unmarshal(a, &left) == nil && json.Unmarshal(b, &right) == nil && reflect.DeepEqual(left, right)
}

// watchPause is how long the watch waits after a failure. The record is also looked at as often as this while it asks for what could not be done yet.
const watchPause = 2 * time.Second

// watch follows the record until ctx ends, so that a swap that another process asked for is done here too.
func (p *Projection[M]) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.watchOnce(ctx); err != nil && ctx.Err() == nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "the watch on the live version begins anew", slog.Any("cause", err))
		}
		wait(ctx, watchPause)
	}
}

func (p *Projection[M]) watchOnce(ctx context.Context) error {
	watcher, err := p.bucket.Watch(ctx, p.cfg.Name)
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Stop() }() // the broker forgets it by itself
	again := time.NewTicker(watchPause)
	defer again.Stop()
	behind := false
	for {
		select {
		case entry, ok := <-watcher.Updates():
			if !ok {
				return errors.New("watch ended")
			}
			if entry == nil { // what was there at the start has been given
				continue
			}
		case <-again.C:
			if !behind {
				continue
			}
		case <-ctx.Done():
			return nil
		}
		if behind = p.obey(ctx); behind && ctx.Err() != nil {
			return nil
		}
	}
}

// obey makes this process do what the record says. behind is set where that could not be done yet.
func (p *Projection[M]) obey(ctx context.Context) (behind bool) {
	p.ops.Lock()
	defer p.ops.Unlock()
	r, err := p.readRecord(ctx)
	if err == nil {
		err = p.apply(ctx, r)
	}
	if err != nil && ctx.Err() == nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "the version that should answer does not yet", slog.Any("cause", err))
	}
	return err != nil
}
