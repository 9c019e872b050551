package order

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"

	"github.com/tidemark/tidemark/pkg/events/store"
)

// The snapshot is the table in the bucket SNAPSHOTS: pages of rows, pages of texts, and a manifest that names them and the positions that they stand for. Only
// what changed is written. A page has two places and is written to the one that the last manifest does not name, and the manifest comes last: a crash
// in between leaves the snapshot before it whole. It is a cache: whatever looks wrong about it is answered by reading the log.

// snapshotFormat is in each manifest. It changes with the encoding and with what the fold means.
const snapshotFormat = "orders/1"

const manifestName = "orders/manifest"

// manifest says what a snapshot holds.
type manifest struct {
	Format  string            `json:"format"`
	Logs    logs              `json:"logs"`
	Orders  uint64            `json:"orders_position"`
	Stock   uint64            `json:"stock_position"`
	Rows    []part            `json:"rows"`
	Texts   []part            `json:"texts"`
	Early   map[string]int64  `json:"early,omitempty"`
	Foreign map[string]string `json:"foreign,omitempty"`
}

// logs are when the streams were made: a snapshot of other streams of the same name says nothing.
type logs struct {
	Orders time.Time `json:"orders_created"`
	Stock  time.Time `json:"stock_created"`
}

// part is one page of rows or of texts.
type part struct {
	Slot  int    `json:"slot"`
	Count int    `json:"count"`
	CRC   uint32 `json:"crc32c"`
}

// orders is how many orders the snapshot holds.
func (m manifest) orders() int {
	n := 0
	for _, p := range m.Rows {
		n += p.Count
	}
	return n
}

func (p part) name(kind string, number int) string {
	return fmt.Sprintf("orders/%s/%d/%c", kind, number, 'a'+rune(p.Slot)) //nolint:gosec // one of two
}

// frozen is what one snapshot writes: a manifest and the parts that changed.
type frozen struct {
	manifest manifest
	blobs    map[string][]byte
}

// snapshotter writes and reads snapshots of one table.
type snapshotter struct {
	table  *table
	blobs  *store.Snapshots
	logs   logs
	stored manifest // the last one that was written or read
}

// errNoSnapshot: there is none that can be used.
var errNoSnapshot = errors.New("no usable snapshot")

// write stores what changed since the last snapshot. After an error the next one writes it again.
func (s *snapshotter) write(ctx context.Context) error {
	f := s.table.snapshot(s.stored)
	f.manifest.Logs = s.logs
	for _, name := range slices.Sorted(maps.Keys(f.blobs)) {
		if err := s.blobs.Put(ctx, name, f.blobs[name]); err != nil {
			s.table.soil(f.manifest, s.stored)
			return fmt.Errorf("write snapshot: %w", err)
		}
	}
	data, err := json.Marshal(f.manifest)
	if err == nil {
		err = s.blobs.Put(ctx, manifestName, data)
	}
	if err != nil {
		s.table.soil(f.manifest, s.stored)
		return fmt.Errorf("write snapshot: %w", err)
	}
	s.stored = f.manifest
	return nil
}

// snapshot encodes the parts that changed, at one moment.
func (t *table) snapshot(last manifest) frozen {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := frozen{blobs: make(map[string][]byte), manifest: manifest{
		Format: snapshotFormat, Orders: t.positions.orders, Stock: t.positions.stock,
		Early: make(map[string]int64, len(t.early)), Foreign: make(map[string]string, len(t.foreign)),
	}}
	for k, at := range t.early {
		f.manifest.Early[hex.EncodeToString(k[:])] = at
	}
	for k, id := range t.foreign {
		f.manifest.Foreign[hex.EncodeToString(k[:])] = id
	}
	for i, p := range t.pages {
		if !p.dirty && i < len(last.Rows) {
			f.manifest.Rows = append(f.manifest.Rows, last.Rows[i])
			continue
		}
		p.dirty = false
		f.manifest.Rows = append(f.manifest.Rows, f.add("rows", i, len(p.rows), encodeRows(p.rows), last.Rows))
	}
	number := 0
	for chunk := range slices.Chunk(t.texts.list, pageSize) {
		if number < len(last.Texts) && last.Texts[number].Count == len(chunk) { // texts are only ever added
			f.manifest.Texts = append(f.manifest.Texts, last.Texts[number])
		} else {
			f.manifest.Texts = append(f.manifest.Texts, f.add("texts", number, len(chunk), encodeTexts(chunk), last.Texts))
		}
		number++
	}
	return f
}

// add puts a blob where the last manifest does not look.
func (f *frozen) add(kind string, number, count int, blob []byte, last []part) part {
	p := part{Count: count, CRC: crc32.Checksum(blob, castagnoli)}
	if number < len(last) {
		p.Slot = 1 - last[number].Slot
	}
	f.blobs[p.name(kind, number)] = blob
	return p
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// soil marks the pages again that a failed snapshot had taken for written.
func (t *table) soil(failed, stored manifest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, p := range failed.Rows {
		if i >= len(stored.Rows) || stored.Rows[i] != p {
			t.pages[i].dirty = true
		}
	}
}

// read fills the empty table from the last snapshot. The error wraps errNoSnapshot where there is none, or none that can be trusted; the table is
// empty then.
func (s *snapshotter) read(ctx context.Context) error {
	data, err := s.blobs.Get(ctx, manifestName)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoSnapshot, err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("%w: manifest: %w", errNoSnapshot, err)
	}
	if m.Format != snapshotFormat {
		return fmt.Errorf("%w: its format is %q, not %q", errNoSnapshot, m.Format, snapshotFormat)
	}
	if !m.Logs.Orders.Equal(s.logs.Orders) || !m.Logs.Stock.Equal(s.logs.Stock) {
		return fmt.Errorf("%w: it is of other logs", errNoSnapshot)
	}
	loaded, err := s.load(ctx, m)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoSnapshot, err)
	}
	s.table.replace(loaded)
	s.stored = m
	return nil
}

func (s *snapshotter) load(ctx context.Context, m manifest) (*table, error) {
	t := newTableFor(m.orders())
	t.positions = positions{orders: m.Orders, stock: m.Stock}
	t.texts = texts{numbers: make(map[string]uint32)}
	for i, p := range m.Texts {
		blob, err := s.fetch(ctx, "texts", i, p)
		if err != nil {
			return nil, err
		}
		if err := t.texts.decode(blob); err != nil {
			return nil, err
		}
	}
	if err := t.loadKeys(m); err != nil {
		return nil, err
	}
	for i, p := range m.Rows {
		blob, err := s.fetch(ctx, "rows", i, p)
		if err != nil {
			return nil, err
		}
		if err := t.decodeRows(blob); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name("rows", i), err)
		}
	}
	return t, nil
}

func (s *snapshotter) fetch(ctx context.Context, kind string, number int, p part) ([]byte, error) {
	blob, err := s.blobs.Get(ctx, p.name(kind, number))
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(blob, castagnoli) != p.CRC {
		return nil, fmt.Errorf("%s: is not the one that the manifest names", p.name(kind, number))
	}
	return blob, nil
}

func (t *table) loadKeys(m manifest) error {
	for text, at := range m.Early {
		k, err := decodeKey(text)
		if err != nil {
			return err
		}
		t.early[k] = at
	}
	for text, id := range m.Foreign {
		k, err := decodeKey(text)
		if err != nil {
			return err
		}
		t.foreign[k] = id
	}
	return nil
}

func decodeKey(text string) (k key, err error) {
	n, err := hex.Decode(k[:], []byte(text))
	if err != nil || n != len(k) {
		return k, fmt.Errorf("key %q: is not %d bytes in hexadecimal", text, len(k))
	}
	return k, nil
}

// replace takes over what was loaded. Nobody waits yet: it happens before the service is ready.
func (t *table) replace(loaded *table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pages, t.index, t.texts, t.byCustomer = loaded.pages, loaded.index, loaded.texts, loaded.byCustomer
	t.early, t.foreign, t.open, t.positions = loaded.early, loaded.foreign, loaded.open, loaded.positions
}

// rowSize is the length of an encoded row: fixed, little-endian, in the order of the struct.
const rowSize = 16 + 4*8 + 4*4 + 1

func encodeRows(rows []row) []byte {
	out := make([]byte, 0, len(rows)*rowSize)
	for i := range rows {
		w := &rows[i]
		out = append(out, w.id[:]...)
		for _, v := range [...]uint64{w.placedSeq, uint64(w.total), uint64(w.placedAt), uint64(w.updatedAt)} { //nolint:gosec // bits, not values
			out = binary.LittleEndian.AppendUint64(out, v)
		}
		for _, v := range [...]uint32{w.customer, w.currency, w.reason, w.version} {
			out = binary.LittleEndian.AppendUint32(out, v)
		}
		out = append(out, byte(w.status))
	}
	return out
}

func (t *table) decodeRows(blob []byte) error {
	if len(blob)%rowSize != 0 {
		return fmt.Errorf("%d bytes are no whole rows", len(blob))
	}
	long, short := binary.LittleEndian.Uint64, binary.LittleEndian.Uint32
	for b := range slices.Chunk(blob, rowSize) {
		w := row{
			placedSeq: long(b[16:]), total: int64(long(b[24:])), placedAt: int64(long(b[32:])), updatedAt: int64(long(b[40:])), //nolint:gosec // bits, not values
			customer: short(b[48:]), currency: short(b[52:]), reason: short(b[56:]), version: short(b[60:]), status: Status(b[64]),
		}
		copy(w.id[:], b)
		texts := uint32(len(t.texts.list)) //nolint:gosec // as rows
		if w.customer >= texts || w.currency >= texts || w.reason >= texts || w.status == None || w.status >= statuses {
			return errors.New("a row names what is not there")
		}
		t.insert(w)
	}
	for _, p := range t.pages {
		p.dirty = false
	}
	return nil
}

// encodeTexts writes each text behind its length.
func encodeTexts(list []string) []byte {
	var out []byte
	for _, s := range list {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	return out
}

func (t *texts) decode(blob []byte) error {
	for len(blob) > 0 {
		n, width := binary.Uvarint(blob)
		if width <= 0 || n > uint64(len(blob)-width) { //nolint:gosec // a length is not negative, and width was just bounded
			return errors.New("texts end in the middle")
		}
		s := string(blob[width : width+int(n)]) //nolint:gosec // no longer than the blob
		t.numbers[s] = uint32(len(t.list))      //nolint:gosec // as rows
		t.list = append(t.list, s)
		blob = blob[width+int(n):] //nolint:gosec // as above
	}
	return nil
}
