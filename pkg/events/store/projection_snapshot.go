package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A snapshot is a manifest, which is one value of the versions' bucket, and the parts that it names, which are blobs. The manifest holds the positions, so model and positions
// can't come apart. A part is named after the hash of its content: it is written once and never changed, and the manifest comes after its parts, so a crash in between
// leaves the snapshot before it whole. Two processes that keep one version exclude each other by the manifest's revision. It is a cache: whatever looks
// wrong about it is answered by reading the logs.

// manifest says what a snapshot holds.
type manifest struct {
	Layout  int                  `json:"layout"`
	At      map[string]uint64    `json:"at"`   // by stream
	Made    map[string]time.Time `json:"made"` // when the streams were made: a snapshot of other streams of the same name says nothing
	Parts   []storedPart         `json:"parts"`
	Count   int                  `json:"count"`
	Skipped map[string]uint64    `json:"skipped,omitempty"`
	Parked  []Parked             `json:"parked,omitempty"`
	SavedAt time.Time            `json:"saved_at"`
}

type storedPart struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
	Size int    `json:"size"`
}

func (m manifest) size() (bytes int64) {
	for _, p := range m.Parts {
		bytes += int64(p.Size)
	}
	return bytes
}

func (m manifest) has(p storedPart) bool { return slices.Contains(m.Parts, p) }

// kept is the manifest as this process knows it, and which revision of each part had which content.
type kept struct {
	manifest manifest
	revision uint64
	parts    map[string]knownPart
}

type knownPart struct {
	revision uint64
	part     storedPart
}

// errNoSnapshot: there is none that can be used.
var errNoSnapshot = errors.New("no usable snapshot")

const (
	hashSize  = 16 // bytes of SHA-256
	stopLimit = 2 * time.Second
)

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:hashSize])
}

func (p *Projection[M]) manifestKey(number uint64) string {
	return p.cfg.Name + "." + strconv.FormatUint(number, 10)
}

func (p *Projection[M]) blobName(number uint64, part storedPart) string {
	return fmt.Sprintf("%s/%d/%s/%s", p.cfg.Name, number, part.Name, part.Hash)
}

// save stores what changed since the last time. Where another process has stored the version lately, there is nothing to do.
func (v *version[M]) save(ctx context.Context) error {
	v.saving.Lock()
	defer v.saving.Unlock()
	p := v.of
	if err := v.refresh(ctx); err != nil {
		return err
	}
	m, blobs, parts := v.freeze()
	if v.stored.revision > 0 && !ahead(m.At, v.stored.manifest.At) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(blobs)) {
		if err := p.blobs.Put(ctx, name, blobs[name]); err != nil {
			return err
		}
	}
	revision, err := p.putJSON(ctx, p.manifestKey(v.number), m, v.stored.revision)
	if err != nil {
		return fmt.Errorf("store manifest: %w", err)
	}
	before := v.stored.manifest
	v.mu.Lock()
	v.stored = kept{manifest: m, revision: revision, parts: parts}
	v.mu.Unlock()
	for _, part := range before.Parts {
		if !m.has(part) {
			if err := p.blobs.Delete(ctx, p.blobName(v.number, part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// refresh reads the manifest that is stored, which may be another process's.
func (v *version[M]) refresh(ctx context.Context) error {
	var m manifest
	revision, err := v.of.getJSON(ctx, v.of.manifestKey(v.number), &m)
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if revision != v.stored.revision {
		v.stored.manifest, v.stored.revision = m, revision
	}
	return nil
}

// ahead reports whether a snapshot at a tells more than one at b.
func ahead(a, b map[string]uint64) bool {
	for stream, at := range a {
		if at > b[stream] {
			return true
		}
	}
	return false
}

// freeze encodes the model at one moment: the parts that are not stored yet.
func (v *version[M]) freeze() (m manifest, blobs map[string][]byte, parts map[string]knownPart) {
	v.mu.Lock()
	defer v.mu.Unlock()
	blobs, parts = make(map[string][]byte), make(map[string]knownPart)
	m = manifest{Layout: v.of.cfg.Layout, Made: v.of.made, Count: v.model.Count(), SavedAt: time.Now().UTC()}
	m.At, m.Skipped, m.Parked = v.state()
	for _, part := range v.model.Parts() {
		known, ok := v.stored.parts[part.Name]
		if !ok || known.revision != part.Revision || !v.stored.manifest.has(known.part) {
			data := part.Encode()
			known = knownPart{revision: part.Revision, part: storedPart{Name: part.Name, Hash: hashOf(data), Size: len(data)}}
			if !v.stored.manifest.has(known.part) {
				blobs[v.of.blobName(v.number, known.part)] = data
			}
		}
		parts[part.Name] = known
		m.Parts = append(m.Parts, known.part)
	}
	v.counted = 0
	return m, blobs, parts
}

// restore fills a new version from its snapshot. The error wraps errNoSnapshot where there is none, or none that can be trusted; the version is empty then. Another process may replace the
// snapshot while it is read, so it is tried again as long as there is a newer one.
func (v *version[M]) restore(ctx context.Context) error {
	for before := uint64(0); ; {
		var m manifest
		revision, err := v.of.getJSON(ctx, v.of.manifestKey(v.number), &m)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", errNoSnapshot, err)
		case revision == 0:
			return fmt.Errorf("%w: none was stored", errNoSnapshot)
		case m.Layout != v.of.cfg.Layout:
			return fmt.Errorf("%w: its layout is %d, not %d", errNoSnapshot, m.Layout, v.of.cfg.Layout)
		case !maps.EqualFunc(m.Made, v.of.made, time.Time.Equal):
			return fmt.Errorf("%w: it is of other logs", errNoSnapshot)
		}
		model, err := v.of.load(ctx, v.number, m)
		if err == nil {
			v.becomes(model, m, revision)
			return nil
		}
		if revision == before || ctx.Err() != nil {
			return fmt.Errorf("%w: %w", errNoSnapshot, err)
		}
		before = revision
	}
}

// becomes makes a restored model the version's. Nothing reads yet.
func (v *version[M]) becomes(model M, m manifest, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.model, v.parked = model, m.Parked
	for i, log := range v.of.cfg.Logs {
		v.at[i] = m.At[log.stream]
	}
	if m.Skipped != nil {
		v.skipped = m.Skipped
	}
	for _, parked := range m.Parked {
		v.behind[parked.Stream+" "+parked.Subject] = struct{}{}
	}
	v.stored = kept{manifest: m, revision: revision, parts: make(map[string]knownPart, len(m.Parts))}
	revisions := make(map[string]uint64)
	for _, part := range model.Parts() {
		revisions[part.Name] = part.Revision
	}
	for _, part := range m.Parts {
		if revision, ok := revisions[part.Name]; ok {
			v.stored.parts[part.Name] = knownPart{revision: revision, part: part}
		}
	}
}

func (p *Projection[M]) load(ctx context.Context, number uint64, m manifest) (M, error) {
	model := p.cfg.New()
	for _, part := range m.Parts {
		data, err := p.blobs.Get(ctx, p.blobName(number, part))
		if err != nil {
			return model, err
		}
		if hashOf(data) != part.Hash {
			return model, fmt.Errorf("part %s is not the one that the manifest names", part.Name)
		}
		if err := model.Restore(part.Name, data); err != nil {
			return model, fmt.Errorf("part %s: %w", part.Name, err)
		}
	}
	return model, nil
}

// forget deletes a version's snapshot.
func (p *Projection[M]) forget(ctx context.Context, number uint64) error {
	var m manifest
	if _, err := p.getJSON(ctx, p.manifestKey(number), &m); err != nil {
		return err
	}
	err := p.bucket.Delete(ctx, p.manifestKey(number))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		err = nil
	}
	for _, part := range m.Parts {
		err = errors.Join(err, p.blobs.Delete(ctx, p.blobName(number, part)))
	}
	return err
}

func (p *Projection[M]) wantSave(v *version[M]) {
	if p.cfg.SaveEvery < 0 {
		return
	}
	select {
	case p.due <- v:
	default: // another is asked for; this one's next event asks again
	}
}

func (p *Projection[M]) keepSaving(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-p.due:
			p.trySave(ctx, v)
		}
	}
}

// trySave stores a version, and finishes what was begun before the stop: half of a snapshot is work for nothing. A failure costs the next start some time, and nothing else.
func (p *Projection[M]) trySave(ctx context.Context, v *version[M]) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopLimit, cancel) })()
	if err := v.save(longer); err != nil && longer.Err() == nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "the read model is not stored", slog.Uint64("version", v.number), slog.Any("cause", err))
	}
}

// saveAtStop stores what is not stored yet, so that the next start reads nothing.
func (p *Projection[M]) saveAtStop(ctx context.Context) {
	if p.cfg.SaveEvery < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	for _, v := range p.inMemory() {
		v.mu.Lock()
		changed := v.counted > 0
		v.mu.Unlock()
		if changed {
			p.trySave(ctx, v)
		}
	}
}
