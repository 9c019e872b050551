package window

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"time"
)

// ErrSnapshot is wrapped by every error of [Restore] about bytes that are no snapshot, or not one of this version.
var ErrSnapshot = errors.New("invalid window snapshot")

// ErrOtherWindows is wrapped by the error of [Restore] where the snapshot was made with other windows or another aggregate. What is
// stored can't be converted: give the changed query a new name.
var ErrOtherWindows = errors.New("snapshot was made with other windows")

const (
	snapshotMagic   = "TMWE"
	snapshotVersion = 1
	checksumSize    = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Size is about how long [Engine.Snapshot] would be, in bytes. It costs nothing to ask.
func (e *Engine) Size() int {
	const header, perPane, perCell = 80, 16, 14
	return header + len(e.open)*perPane + e.cells*perCell + e.keys + len(e.ids)*len(id{})
}

// Snapshot writes the engine's state. Equal states give equal bytes, in whatever order they came about. The layout, numbers as varints:
//
//	"TMWE" version  kind size offset aggregate  started clock maximum watermark  read counted late duplicates
//	panes { start cells { key count sum } ids { 16 bytes } }  CRC-32C
//
// Panes are in the order of their start, keys and ids in the order of their bytes.
func (e *Engine) Snapshot() []byte {
	b := make([]byte, 0, e.Size()+checksumSize)
	b = append(b, snapshotMagic...)
	b = append(b, snapshotVersion)
	b = append(b, e.identity()...)
	b = append(b, flag(e.started))
	b = binary.AppendVarint(b, e.clock)
	b = binary.AppendVarint(b, e.maximum)
	b = binary.AppendVarint(b, e.watermark)
	for _, n := range []uint64{e.counts.Read, e.counts.Counted, e.counts.Late, e.counts.Duplicates} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(e.open)))
	for _, p := range e.open {
		b = p.append(b)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// identity is what may not change between a snapshot and the engine that goes on from it.
func (e *Engine) identity() []byte {
	b := []byte{byte(e.cfg.Windows.kind)}
	b = binary.AppendVarint(b, e.cfg.Windows.size.Milliseconds())
	b = binary.AppendVarint(b, e.cfg.Windows.offset.Milliseconds())
	return append(b, byte(e.cfg.Aggregate))
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func (p *pane) append(b []byte) []byte {
	b = binary.AppendVarint(b, p.Start)
	b = binary.AppendUvarint(b, uint64(len(p.cells)))
	for _, key := range slices.Sorted(maps.Keys(p.cells)) {
		c := p.cells[key]
		b = binary.AppendUvarint(b, uint64(len(key)))
		b = append(b, key...)
		b = binary.AppendVarint(b, c.count)
		b = binary.AppendVarint(b, c.sum)
	}
	ids := slices.SortedFunc(slices.Values(p.ids), func(a, b id) int { return bytes.Compare(a[:], b[:]) })
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, hash := range ids {
		b = append(b, hash[:]...)
	}
	return b
}

// Restore returns an engine that goes on where the snapshot was taken. Windows and aggregate of cfg must be those of the snapshot
// ([ErrOtherWindows]). Bound and MaxFuture may differ: they hold from the next event on, and the watermark does not go back.
func Restore(cfg Config, snapshot []byte) (*Engine, error) {
	e, err := New(cfg)
	if err != nil {
		return nil, err
	}
	head := len(snapshotMagic) + 1
	if len(snapshot) < head+checksumSize || string(snapshot[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: does not begin as one", ErrSnapshot)
	}
	if v := snapshot[len(snapshotMagic)]; v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrSnapshot, v, snapshotVersion)
	}
	body, sum := snapshot[:len(snapshot)-checksumSize], snapshot[len(snapshot)-checksumSize:]
	if binary.BigEndian.Uint32(sum) != crc32.Checksum(body, castagnoli) {
		return nil, fmt.Errorf("%w: checksum differs", ErrSnapshot)
	}
	r := &reader{rest: body[head:]}
	if err := r.identity(e); err != nil {
		return nil, err
	}
	r.engine(e)
	if r.err == nil && len(r.rest) > 0 {
		r.fail("goes on after its end")
	}
	if r.err != nil {
		return nil, r.err
	}
	return e, nil
}

// reader reads a snapshot's body. After the first error it reads zeros, so the error is looked at once, at the end.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(rule string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrSnapshot, rule)
	}
	r.rest = nil
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail("ends too early")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("ends too early")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail("ends too early")
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) identity(e *Engine) error {
	k, size, offset, aggregate := r.byte(), r.varint(), r.varint(), Aggregate(r.byte())
	if r.err != nil {
		return r.err
	}
	c := e.cfg
	if kind(k) != c.Windows.kind || size != c.Windows.size.Milliseconds() || offset != c.Windows.offset.Milliseconds() || aggregate != c.Aggregate {
		return fmt.Errorf("%w: kind %d, size %s, offset %s, %s; the query has %s, %s", ErrOtherWindows,
			k, time.Duration(size)*time.Millisecond, time.Duration(offset)*time.Millisecond, aggregate, c.Windows, c.Aggregate)
	}
	return nil
}

func (r *reader) engine(e *Engine) {
	started := r.byte()
	if started > 1 {
		r.fail("started is neither 0 nor 1")
	}
	e.started = started == 1
	e.clock, e.maximum, e.watermark = r.varint(), r.varint(), r.varint()
	e.counts = Counts{Read: r.uvarint(), Counted: r.uvarint(), Late: r.uvarint(), Duplicates: r.uvarint()}
	if e.counts.Read != e.counts.Counted+e.counts.Late+e.counts.Duplicates {
		r.fail("counts don't add up")
	}
	last := int64(math.MinInt64)
	for range r.uvarint() {
		p := r.pane(e, last)
		if r.err != nil {
			return
		}
		last = p.End
		e.open = append(e.open, p)
	}
	if uint64(len(e.ids)) > e.counts.Counted {
		r.fail("more events are in open windows than were counted")
	}
}

func (r *reader) pane(e *Engine, after int64) *pane {
	start := r.varint()
	p := &pane{Window: e.cfg.Windows.Of(start), cells: make(map[string]*cell)}
	if p.Start != start || start < after || !e.started || e.watermark >= p.End {
		r.fail("a window is not one of the query, out of order, or had fired")
	}
	events := r.cells(e, p)
	n := r.uvarint()
	if n != events || n > uint64(len(r.rest)/len(id{})) {
		r.fail("a window has not one id for each of its events")
	}
	for range n {
		if r.err != nil {
			return p
		}
		hash := id(r.bytes(uint64(len(id{}))))
		if _, seen := e.ids[hash]; seen {
			r.fail("an id stands twice")
		}
		e.ids[hash] = struct{}{}
		p.ids = append(p.ids, hash)
	}
	return p
}

// cells reads the cells of a pane and returns how many events they hold.
func (r *reader) cells(e *Engine, p *pane) (events uint64) {
	last := ""
	for i := range r.uvarint() {
		if r.err != nil {
			return events
		}
		key := string(r.bytes(r.uvarint()))
		c := &cell{count: r.varint(), sum: r.varint()}
		if c.count <= 0 || i > 0 && key <= last {
			r.fail("keys are out of order, or a key has no event")
		}
		last = key
		p.cells[key] = c
		events += uint64(c.count) //nolint:gosec // more than 0
		e.cells++
		e.keys += len(key)
	}
	return events
}
