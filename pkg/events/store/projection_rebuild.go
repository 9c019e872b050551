package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
)

// Rebuild begins a new version beside the live one, from the first event of each log, and returns its number; it does not wait for it. Where one is being built already, that one is
// meant; where the last attempt failed, or was begun with another fold, it begins anew. An event that can't be folded ends the rebuild, unless park is set: then it is passed over, as the live version does.
func (p *Projection[M]) Rebuild(ctx context.Context, park bool) (uint64, error) {
	p.ops.Lock()
	defer p.ops.Unlock()
	if err := p.running(); err != nil {
		return 0, err
	}
	r, err := p.changeRecord(ctx, func(r *record) error {
		if next, ok := r.version(r.Next); ok && next.Fold == p.cfg.Fold && next.Layout == p.cfg.Layout && next.Strict == !park && !p.hasFailed(next.Number) {
			return nil
		}
		r.Next = r.add(p.cfg.Fold, p.cfg.Layout, !park).Number
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := p.dropRest(ctx, r); err != nil {
		return 0, err
	}
	next, _ := r.version(r.Next)
	p.bring(ctx, next)
	return next.Number, nil
}

func (p *Projection[M]) hasFailed(number uint64) bool {
	p.mu.Lock()
	v := p.others[number]
	p.mu.Unlock()
	if v == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed != nil
}

// dropRest forgets the versions that have no role any more. The caller holds ops.
func (p *Projection[M]) dropRest(ctx context.Context, r record) error {
	var dropped []uint64
	tidied := r
	if dropped = tidied.tidy(); len(dropped) == 0 {
		return nil
	}
	r, err := p.changeRecord(ctx, func(r *record) error {
		dropped = r.tidy()
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.apply(ctx, r); err != nil {
		return err
	}
	for _, number := range dropped {
		if err := p.forget(ctx, number); err != nil {
			return fmt.Errorf("drop version %d: %w", number, err)
		}
	}
	return nil
}

// Comparison is what sets a version apart from the live one, both at the same positions.
type Comparison struct {
	Version, Live        uint64
	At                   map[string]uint64
	Equal                bool // byte for byte
	Digest, LiveDigest   string
	Count, LiveCount     int
	Differ               int // rows that are not the same in both, or in one of them only
	First                []RowDifference
	Parked, LiveParked   int
	SameFold             bool // the same fold made both, so that a difference is a fault
	Skipped, LiveSkipped uint64
}

// RowDifference is one row that is not the same; empty where it is not there.
type RowDifference struct{ Key, Live, Version string }

// firstDifferences is how many rows a [Comparison] shows.
const firstDifferences = 5

// Compare stops the live version and another one at the same position for a moment, and says what sets them apart. Zero means the next version.
func (p *Projection[M]) Compare(ctx context.Context, number uint64) (Comparison, error) {
	p.ops.Lock()
	defer p.ops.Unlock()
	_, c, err := p.compare(ctx, number)
	return c, err
}

// compare brings the version where it is not in memory. The caller holds ops.
func (p *Projection[M]) compare(ctx context.Context, number uint64) (Version, Comparison, error) {
	if err := p.running(); err != nil {
		return Version{}, Comparison{}, err
	}
	r, err := p.readRecord(ctx)
	if err != nil {
		return Version{}, Comparison{}, err
	}
	if number == 0 {
		number = r.Next
	}
	to, ok := r.version(number)
	live, _ := r.version(r.Live)
	switch {
	case number == 0:
		return to, Comparison{}, fmt.Errorf("%w: nothing is built beside version %d; rebuild first", ErrNoVersion, r.Live)
	case !ok:
		return to, Comparison{}, fmt.Errorf("%w: %d", ErrNoVersion, number)
	case to.Layout != p.cfg.Layout:
		return to, Comparison{}, fmt.Errorf("%w: version %d has layout %d, this program has %d", ErrNotReady, number, to.Layout, p.cfg.Layout)
	}
	v := p.bring(ctx, to)
	if err := v.awaitCaughtUp(ctx); err != nil {
		return to, Comparison{}, err
	}
	p.mu.Lock()
	now := p.live
	p.mu.Unlock()
	c := Comparison{Version: number, Live: now.number, SameFold: to.Fold == live.Fold}
	if v == now {
		return to, c, fmt.Errorf("%w: version %d is the live one", ErrNoVersion, number)
	}
	mine, other, err := capture(ctx, &c, now, v)
	if err != nil {
		return to, c, err
	}
	c.Digest, c.LiveDigest = other.digest(), mine.digest()
	if c.Equal = mine.equal(other); !c.Equal {
		err = p.explain(&c, mine, other)
	}
	return to, c, err
}

// image is a whole model, encoded.
type image struct {
	names []string
	parts map[string][]byte
}

func (v *version[M]) image() image {
	i := image{parts: make(map[string][]byte)}
	for _, part := range v.model.Parts() {
		i.names = append(i.names, part.Name)
		i.parts[part.Name] = part.Encode()
	}
	return i
}

func (i image) digest() string {
	h := sha256.New()
	for _, name := range i.names {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(i.parts[name])))
		_, _ = fmt.Fprintf(h, "%s\n", name) // a hash never fails
		_, _ = h.Write(length[:])
		_, _ = h.Write(i.parts[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (i image) equal(other image) bool {
	if len(i.names) != len(other.names) {
		return false
	}
	for n, name := range i.names {
		if other.names[n] != name || !bytes.Equal(i.parts[name], other.parts[name]) {
			return false
		}
	}
	return true
}

// capture encodes both versions at the same position.
func capture[M Model](ctx context.Context, c *Comparison, live, other *version[M]) (a, b image, err error) {
	release, err := meet(ctx, live, other)
	if err != nil {
		return image{}, image{}, err
	}
	defer release()
	live.mu.Lock()
	a = live.image()
	c.At, c.LiveCount, c.LiveParked, c.LiveSkipped = live.where(), live.model.Count(), len(live.parked), sum(live.skipped)
	live.mu.Unlock()
	other.mu.Lock()
	b = other.image()
	c.Count, c.Parked, c.Skipped = other.model.Count(), len(other.parked), sum(other.skipped)
	other.mu.Unlock()
	return a, b, nil
}

func sum(counts map[string]uint64) (n uint64) {
	for _, count := range counts {
		n += count
	}
	return n
}

// explain says how many rows differ, and shows some. It works on copies: both versions go on meanwhile.
func (p *Projection[M]) explain(c *Comparison, live, other image) error {
	a, b := p.cfg.New(), p.cfg.New()
	if err := errors.Join(live.restore(a.Restore), other.restore(b.Restore)); err != nil {
		return err
	}
	seed := maphash.MakeSeed()
	left := make(map[uint64]uint64, a.Count()) // the live one's rows that are not in the other, by the hash of their keys
	for key, row := range a.Rows() {
		left[maphash.String(seed, key)] = maphash.String(seed, row)
	}
	shown := make(map[string]int)
	show := func(key string) int {
		if n, ok := shown[key]; ok || len(c.First) == firstDifferences {
			return cmp.Or(n, -1)
		}
		c.First = append(c.First, RowDifference{Key: key})
		shown[key] = len(c.First)
		return len(c.First)
	}
	for key, row := range b.Rows() {
		hash := maphash.String(seed, key)
		if same, ok := left[hash]; ok && same == maphash.String(seed, row) {
			delete(left, hash)
			continue
		} else if !ok {
			c.Differ++ // those that both have are counted below
		}
		if n := show(key); n > 0 {
			c.First[n-1].Version = row
		}
	}
	c.Differ += len(left)
	for key, row := range a.Rows() {
		if _, differs := left[maphash.String(seed, key)]; differs {
			if n := show(key); n > 0 {
				c.First[n-1].Live = row
			}
		}
	}
	return nil
}

// restore puts the parts into an empty model.
func (i image) restore(restore func(name string, data []byte) error) error {
	for _, name := range i.names {
		if err := restore(name, i.parts[name]); err != nil {
			return fmt.Errorf("restore part %s: %w", name, err)
		}
	}
	return nil
}
