package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// begin chooses the version that answers, restores it and starts to read.
func (p *Projection[M]) begin(ctx, reading context.Context) error {
	p.ops.Lock()
	defer p.ops.Unlock()
	p.mu.Lock()
	p.reading = reading
	p.mu.Unlock()
	r, err := p.changeRecord(ctx, func(r *record) error {
		if r.Live == 0 {
			r.Live = r.add(p.cfg.Fold, p.cfg.Layout, false).Number
		}
		return nil
	})
	if err != nil {
		return err
	}
	mine, err := p.mine(ctx, r)
	if err != nil {
		return err
	}
	mine.Strict = false // what answers must go on
	v := p.bring(ctx, mine)
	p.promote(v)
	p.readers.Go(func() { p.awaitStart(reading, v) })
	return nil
}

// mine is the version that this program answers from at the start: the live one, or, where a program with another layout made that, the newest that it can read, or a new one.
func (p *Projection[M]) mine(ctx context.Context, r record) (Version, error) {
	live, _ := r.version(r.Live)
	if live.Layout == p.cfg.Layout {
		if live.Fold != p.cfg.Fold {
			p.log.LogAttrs(ctx, slog.LevelWarn, "the live version was begun with another fold; rebuild it", slog.Uint64("version", live.Number), slog.Int("fold", live.Fold), slog.Int("program", p.cfg.Fold))
		}
		return live, nil
	}
	p.log.LogAttrs(ctx, slog.LevelWarn, "the live version has another layout; this process answers from one of its own", slog.Uint64("version", live.Number), slog.Int("layout", live.Layout),
		slog.Int("program", p.cfg.Layout))
	var found Version
	for _, v := range r.Versions {
		if v.Layout == p.cfg.Layout && v.Number > found.Number {
			found = v
		}
	}
	if found.Number > 0 {
		return found, nil
	}
	var added Version
	_, err := p.changeRecord(ctx, func(r *record) error {
		added = r.add(p.cfg.Fold, p.cfg.Layout, false)
		r.Next = added.Number
		return nil
	})
	return added, err
}

// awaitStart tells that the first version has caught up, and makes it the live one where a program with another layout had made the one before.
func (p *Projection[M]) awaitStart(ctx context.Context, v *version[M]) {
	if v.awaitCaughtUp(ctx) != nil {
		return
	}
	p.ready.Do(func() { close(p.caughtUp) })
	_, err := p.changeRecord(ctx, func(r *record) error {
		if live, _ := r.version(r.Live); live.Layout == p.cfg.Layout || v.number < r.Live {
			return errDone
		}
		r.swap(v.number)
		return nil
	})
	if err != nil && !errors.Is(err, errDone) && ctx.Err() == nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "the version that answers is not recorded as live", slog.Uint64("version", v.number), slog.Any("cause", err))
	}
}

var errDone = errors.New("nothing to do")

// bring makes a version that is read in this process, from its snapshot on where there is one. The caller holds ops.
func (p *Projection[M]) bring(ctx context.Context, r Version) *version[M] {
	p.mu.Lock()
	known := p.others[r.Number]
	if p.live != nil && p.live.number == r.Number {
		known = p.live
	}
	p.mu.Unlock()
	if known != nil {
		return known
	}
	v := p.newVersion(r)
	if p.cfg.SaveEvery > 0 {
		began := time.Now()
		if err := v.restore(ctx); err != nil {
			p.log.LogAttrs(ctx, slog.LevelInfo, "the logs are read from their start", slog.Uint64("version", r.Number), slog.Any("cause", err))
		} else {
			p.log.LogAttrs(ctx, slog.LevelInfo, "the read model starts from its snapshot", slog.Uint64("version", r.Number), slog.Int("rows", v.model.Count()), slog.Any("at", v.where()), slog.Duration("took", time.Since(began)))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		v.stop = func() {}
		close(v.ended)
		return v
	}
	p.others[r.Number] = v
	v.start(p.reading)
	return v
}

// promote makes a version the one that answers.
func (p *Projection[M]) promote(v *version[M]) {
	v.mu.Lock()
	v.strict = false
	if p.cfg.Promote != nil {
		p.cfg.Promote(v.model)
	}
	p.answering.Store(&v.model)
	v.mu.Unlock()
	p.mu.Lock()
	delete(p.others, v.number)
	p.live = v
	p.mu.Unlock()
	v.mu.Lock()
	failed := v.failed
	v.mu.Unlock()
	if failed != nil { // before it was known to be the live one
		p.failedIn(v, failed)
	}
}

// apply makes the version that the record calls live the one that answers here. The one that answered goes on until the other has come as far. The caller holds ops.
func (p *Projection[M]) apply(ctx context.Context, r record) error {
	p.mu.Lock()
	now := p.live
	p.mu.Unlock()
	to, ok := r.version(r.Live)
	if ok && to.Number != now.number && to.Layout == p.cfg.Layout {
		if err := p.flip(ctx, now, to); err != nil {
			return err
		}
	}
	for _, v := range p.inMemory() {
		if _, kept := r.version(v.number); !kept {
			p.discard(v)
		}
	}
	return nil
}

func (p *Projection[M]) flip(ctx context.Context, now *version[M], to Version) error {
	to.Strict = false // what answers must go on
	v := p.bring(ctx, to)
	if err := v.awaitCaughtUp(ctx); err != nil {
		return err
	}
	release, err := meet(ctx, now, v)
	if err != nil {
		return err
	}
	p.promote(v)
	release()
	p.log.LogAttrs(ctx, slog.LevelInfo, "another version answers", slog.Uint64("version", v.number), slog.Uint64("before", now.number))
	now.stop()
	<-now.ended
	if p.cfg.SaveEvery > 0 {
		p.trySave(ctx, now) // to go back to
	}
	return nil
}

// discard stops a version that is neither live nor wanted.
func (p *Projection[M]) discard(v *version[M]) {
	p.mu.Lock()
	if p.live == v {
		p.mu.Unlock()
		return
	}
	delete(p.others, v.number)
	p.mu.Unlock()
	v.stop()
	<-v.ended
}

// inMemory are the versions that this process reads, the live one first.
func (p *Projection[M]) inMemory() []*version[M] {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*version[M]
	if p.live != nil {
		all = append(all, p.live)
	}
	for _, v := range p.others {
		all = append(all, v)
	}
	return all
}

// failedIn is told of a version that can't go on. Only the live one ends Run.
func (p *Projection[M]) failedIn(v *version[M], err error) {
	p.mu.Lock()
	live := p.live == v
	p.mu.Unlock()
	if !live {
		p.log.Warn("a version can't be built", slog.Uint64("version", v.number), slog.Any("cause", err))
		return
	}
	select {
	case p.failures <- err:
	default:
	}
}

// running refuses what needs Run.
func (p *Projection[M]) running() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil || p.stopping {
		return fmt.Errorf("%w: the projection does not run", ErrNotReady)
	}
	return nil
}
