package window

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// ErrSnapshot is wrapped by every error of [Restore] about bytes that are no snapshot, or not one of this version.
var ErrSnapshot = errors.New("invalid window snapshot")

// ErrOtherWindows is wrapped by the error of [Restore] where the snapshot was made with other windows or another aggregate. What is
// stored can't be converted: give the changed query a new name.
var ErrOtherWindows = errors.New("snapshot was made with other windows")

const (
	snapshotMagic   = "TMWE"
	snapshotVersion = 3 // of the layout: whoever changes that changes this, and lets the one before be read
	versionInSlice  = 2 // had the ids of a slice behind its cells
	checksumSize    = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Size is about how long [Engine.Snapshot] would be, in bytes. It costs nothing to ask.
func (e *Engine) Size() int {
	const header, perPartition, perCell = 120, 16, 18
	n := header + len(e.line.partitions)*perPartition + e.State().IDs*len(id{})
	if s := e.sessions; s != nil {
		return n + s.cells*perCell + s.keyBytes + len(s.keys)*4
	}
	return n + e.aligned.cells*perCell + e.aligned.keyBytes
}

// Snapshot writes the engine's state. Equal states give equal bytes, in whatever order they came about. The layout, numbers as varints, texts with
// their length before them:
//
//	"TMWE" version  windows aggregate  started clock  partitions { any reached lastLife }  reached watermark gone
//	counts...  slices { start length cells { key count value } } ids { until { 16 bytes } } revised { start length { key revision } }  CRC-32C
//
// Of sessions, instead of slices and what is behind them:
//
//	keys { key tombstone sessions { start length revision count value ids { 16 bytes } } }
//
// All is in the order of time, keys and ids in the order of their bytes.
func (e *Engine) Snapshot() []byte { return e.writer((*memory).view)() }

// Freeze is [Engine.Snapshot] for who has little time: it only copies what would change. The function that it returns writes the snapshot, in any goroutine and while the engine goes on. It is
// called once at most.
func (e *Engine) Freeze() (write func() []byte) { return e.writer((*memory).freeze) }

// writer takes down what would change, and returns what writes the snapshot.
func (e *Engine) writer(freeze func(*memory) *frozen) (write func() []byte) {
	head, size := e.appendHead(nil), e.Size()+checksumSize
	begin := func() []byte { return append(make([]byte, 0, size), head...) }
	if e.sessions != nil {
		keys := e.sessions.freeze()
		return func() []byte { return appendChecksum(keys.write(begin())) }
	}
	slices, ids, revised := e.aligned.freezeSlices(), freeze(&e.ids), e.aligned.freezeRevised()
	return func() []byte {
		b := appendRemembered(appendFrozen(begin(), slices), ids)
		return appendChecksum(appendFrozen(b, revised))
	}
}

func (e *Engine) appendHead(b []byte) []byte {
	b = append(b, snapshotMagic...)
	b = append(b, snapshotVersion)
	b = appendText(b, e.cfg.Windows.String())
	b = appendText(b, e.settings.aggregate.Name())
	b = e.line.append(b)
	for v := range verdicts {
		b = binary.AppendUvarint(b, e.counts[v])
	}
	return b
}

func appendChecksum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendWindow(b []byte, w Window) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, w.Start), uint64(w.End-w.Start)) //nolint:gosec // two's complement is meant
}

func appendIDs(b []byte, ids []id) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, hash := range sortedIDs(ids) {
		b = append(b, hash[:]...)
	}
	return b
}

// appendRemembered writes ids by the time until when they are remembered.
func appendRemembered(b []byte, ids *frozen) []byte {
	groups := ids.groups()
	b = binary.AppendUvarint(b, uint64(len(groups)))
	for _, until := range slices.Sorted(maps.Keys(groups)) {
		b = appendIDs(binary.AppendVarint(b, until), groups[until])
	}
	return b
}

func (l *line) append(b []byte) []byte {
	b = appendFlag(b, l.started)
	b = binary.AppendVarint(b, l.clock)
	b = binary.AppendUvarint(b, uint64(len(l.partitions)))
	for _, p := range l.partitions {
		b = appendFlag(b, p.any)
		b = binary.AppendVarint(b, p.reached)
		b = binary.AppendVarint(b, p.lastLife)
	}
	for _, t := range []int64{l.reached, l.watermark, l.gone} {
		b = binary.AppendVarint(b, t)
	}
	return b
}

func (c *cell) append(b []byte) []byte {
	b = binary.AppendVarint(b, c.count)
	var buf [64]byte
	return appendText(b, c.value.Append(buf[:0]))
}

// Restore returns an engine that goes on where the snapshot was taken. Windows and aggregate of cfg must be those of the snapshot
// ([ErrOtherWindows]). All else may differ: it holds from the next event on, and the watermark does not go back. What a smaller Lateness
// makes gone is gone at once; a larger one does not bring anything back. Snapshots of every earlier layout are read from version 2 on.
func Restore(cfg Config, snapshot []byte) (*Engine, error) {
	e, err := New(cfg)
	if err != nil {
		return nil, err
	}
	version, body, err := checkedBody(snapshot)
	if err != nil {
		return nil, err
	}
	r := &reader{rest: body, idsInSlice: version == versionInSlice}
	if windows, aggregate := r.text(), r.text(); r.err == nil && (windows != cfg.Windows.String() || aggregate != e.settings.aggregate.Name()) {
		return nil, fmt.Errorf("%w: %s of %s; the query has %s of %s", ErrOtherWindows, aggregate, windows, e.settings.aggregate.Name(), cfg.Windows)
	}
	r.engine(e)
	if err := r.done(ErrSnapshot); err != nil {
		return nil, err
	}
	if version != snapshotVersion { // what it says is held to the present layout, whose rules are stricter
		return Restore(cfg, e.Snapshot())
	}
	if !bytes.Equal(e.Snapshot(), snapshot) {
		return nil, fmt.Errorf("%w: it is not as it would be written", ErrSnapshot)
	}
	e.adopt()
	return e, nil
}

// checkedBody is the version and what stands behind it.
func checkedBody(snapshot []byte) (version byte, body []byte, err error) {
	head := len(snapshotMagic) + 1
	if len(snapshot) < head+checksumSize || string(snapshot[:len(snapshotMagic)]) != snapshotMagic {
		return 0, nil, fmt.Errorf("%w: does not begin as one", ErrSnapshot)
	}
	version = snapshot[len(snapshotMagic)]
	if version != snapshotVersion && version != versionInSlice {
		return 0, nil, fmt.Errorf("%w: version %d, this program reads %d and %d", ErrSnapshot, version, versionInSlice, snapshotVersion)
	}
	end := len(snapshot) - checksumSize
	if binary.BigEndian.Uint32(snapshot[end:]) != crc32.Checksum(snapshot[:end], castagnoli) {
		return 0, nil, fmt.Errorf("%w: checksum differs", ErrSnapshot)
	}
	return version, snapshot[head:end], nil
}

// adopt lets the present configuration hold for what was restored.
func (e *Engine) adopt() {
	partitions := make([]partition, len(e.settings.bounds))
	for i := copy(partitions, e.line.partitions); i < len(partitions); i++ {
		partitions[i] = partition{reached: never, lastLife: e.line.clock}
	}
	e.line.partitions = partitions
	e.line.retire()
	if e.sessions != nil {
		e.sessions.rewind()
		e.sessions.advance(nil)
		return
	}
	e.aligned.forget()
	e.aligned.due = e.aligned.nextDue()
}
