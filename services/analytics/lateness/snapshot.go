package lateness

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/tidemark/tidemark/pkg/window"
)

const snapshotVersion = 1

// ErrSnapshot is wrapped by every error of [Restore].
var ErrSnapshot = errors.New("invalid lateness snapshot")

// Snapshot writes the meter. Equal meters give equal bytes. The layout, all numbers as varints:
//
//	version  clock waits  hours { number slack longer cells ids tombstones size  bars { steps count } }
func (m *Meter) Snapshot() []byte {
	b := append(make([]byte, 0, m.Size()), snapshotVersion)
	b = binary.AppendVarint(b, m.clock)
	b = binary.AppendVarint(b, m.waits)
	hours := m.inOrder()
	b = binary.AppendUvarint(b, uint64(len(hours)))
	for _, h := range hours {
		for _, n := range []uint64{
			uint64(h.number), h.slack, h.longer, //nolint:gosec // hours since 1970
			uint64(h.peak.Cells), uint64(h.peak.IDs), uint64(h.peak.Tombstones), uint64(h.peakLen), uint64(h.events.Populated()), //nolint:gosec // counts
		} {
			b = binary.AppendUvarint(b, n)
		}
		before := int64(0)
		h.events.ForEachBucket(func(value, count int64) bool {
			b = binary.AppendUvarint(b, uint64(value-before)) //nolint:gosec // ascending
			b = binary.AppendUvarint(b, uint64(count))        //nolint:gosec // a count
			before = value
			return true
		})
	}
	return b
}

// inOrder are the hours that count, the oldest first.
func (m *Meter) inOrder() []*hour {
	var all []*hour
	for i := range m.hours {
		h := &m.hours[(m.clock/hourMillis+1+int64(i))%Hours]
		if m.live(h) {
			all = append(all, h)
		}
	}
	return all
}

// Restore returns the meter of a snapshot, for a query that waits now for bound + lateness, in milliseconds.
func Restore(waits int64, snapshot []byte) (*Meter, error) {
	r := reader{r: bytes.NewReader(snapshot)}
	if v := r.byte(); r.err == nil && v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d, this program knows %d", ErrSnapshot, v, snapshotVersion)
	}
	m := New(waits)
	m.clock = r.signed()
	same := r.signed() == waits
	hours := r.number(Hours)
	for range hours {
		m.restoreHour(&r, same)
	}
	if r.err == nil && r.r.Len() > 0 {
		r.err = fmt.Errorf("%d bytes behind its end", r.r.Len())
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, r.err)
	}
	return m, nil
}

func (m *Meter) restoreHour(r *reader, samePeaks bool) {
	number := int64(r.number(math.MaxInt64 / hourMillis)) //nolint:gosec // checked
	if r.err != nil || number > m.clock/hourMillis {
		r.fail("an hour lies ahead")
		return
	}
	h := m.at(number)
	h.slack, h.longer = r.number(maxCount), r.number(maxCount)
	peak := window.State{Cells: r.small(), IDs: r.small(), Tombstones: r.small()}
	size := r.small()
	if samePeaks {
		h.peak, h.peakLen = peak, size
	}
	value := uint64(0)
	for bars := r.number(maxOverrun); bars > 0 && r.err == nil; bars-- {
		value += r.number(maxOverrun)
		count := r.number(maxCount)
		if r.err == nil && h.events.RecordValues(int64(value), int64(count)) != nil { //nolint:gosec // checked
			r.fail("an overrun is out of range")
		}
	}
}

// reader keeps the first error.
type reader struct {
	r   *bytes.Reader
	err error
}

const maxCount = math.MaxInt64 >> 8

func (r *reader) byte() byte {
	b, err := r.r.ReadByte()
	r.note(err)
	return b
}

func (r *reader) signed() int64 {
	v, err := binary.ReadVarint(r.r)
	r.note(err)
	if v < 0 {
		r.fail("a time or a wait is negative")
	}
	return v
}

func (r *reader) number(most uint64) uint64 {
	v, err := binary.ReadUvarint(r.r)
	r.note(err)
	if v > most {
		r.fail("a number is out of range")
		return 0
	}
	return v
}

func (r *reader) small() int { return int(r.number(math.MaxInt32)) } //nolint:gosec // checked

func (r *reader) note(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) fail(what string) { r.note(errors.New(what)) }
