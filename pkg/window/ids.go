package window

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
)

// id is the head of the SHA-256 of an event id. Ids come from outside: with a weaker hash a producer could make one id hide another.
type id [16]byte

func hashID(s string) id {
	var buf [128]byte // an id that fits costs no allocation
	sum := sha256.Sum256(append(buf[:0], s...))
	return id(sum[:16])
}

// memory holds the ids of all events in live windows, each with the time until which it is remembered: the end of the last window that has the event. An id is
// forgotten when what is gone reaches that time, without anybody going through the ids: its place is taken by an id whose search comes by, or is free when its shard
// is made anew.
//
// It is a hash table with open addressing. A map of Go would do; here an event costs one look, where a map takes three to look, put and delete, and
// the ids need not be listed a second time by window. Shards keep growing cheap: one of them is made anew at a time.
type memory struct {
	line   *line
	shards [shards]shard
	spare  []remembered // the table that a shard had before: the next one takes it, so that there is nothing to allocate where the state does not grow
}

const (
	shards     = 64
	leastSlots = 16
)

// shard is a table with a power of two of slots. Slots in use are at most five of eight, so that a look is short.
type shard struct {
	slots []remembered
	used  int  // that are not empty, whether their time is over or not
	lent  bool // a snapshot reads the slots: they are copied before they change
}

type remembered struct {
	id    id
	until int64
}

// forgotten is the time of an id that is not remembered: nothing that is gone is before it.
const forgotten = never

func (r *remembered) empty() bool { return r.id == id{} }

// index takes bits of the hash that are as good as random; those that choose the shard are others.
func (h *id) index() uint64 { return binary.LittleEndian.Uint64(h[:8]) }
func (h *id) shard() int    { return int(h[15] % shards) }

// find returns the slot of an id, which is where it is to be put if it is not remembered: the first on its way that is free.
func (m *memory) find(h id) (slot *remembered, known bool) {
	s := &m.shards[h.shard()]
	if s.lent {
		s.slots, s.lent = slices.Clone(s.slots), false
	}
	if s.used*8 >= len(s.slots)*5 {
		m.renew(s)
	}
	gone := m.line.gone
	mask := uint64(len(s.slots) - 1) //nolint:gosec // not negative
	for i := h.index() & mask; ; i = (i + 1) & mask {
		r := &s.slots[i]
		switch {
		case r.empty():
			if slot == nil {
				slot = r
			}
			return slot, false
		case r.until <= gone:
			if slot == nil {
				slot = r
			}
		case r.id == h:
			return r, true
		}
	}
}

// put remembers an id in the slot that find has given for it.
func (m *memory) put(slot *remembered, h id, until int64) {
	if slot.empty() {
		m.shards[h.shard()].used++
	}
	*slot = remembered{id: h, until: until}
}

// forget is for ids whose time was not known when they were put.
func (m *memory) forget(ids []id) {
	for i := range ids {
		if slot, known := m.find(ids[i]); known {
			slot.until = forgotten
		}
	}
}

// frozen is what is remembered at one moment.
type frozen struct {
	tables [shards][]remembered
	gone   int64
}

// freeze is what is remembered now. It copies nothing: a table is copied when an id comes by that belongs to it, so the cost is spread over the next events.
func (m *memory) freeze() *frozen {
	f := m.view()
	for i := range m.shards {
		m.shards[i].lent = len(m.shards[i].slots) > 0
	}
	return f
}

// view is freeze for who is done before the next id comes.
func (m *memory) view() *frozen {
	f := &frozen{gone: m.line.gone}
	for i := range m.shards {
		f.tables[i] = m.shards[i].slots
	}
	return f
}

// all are the ids that are remembered, in no order.
func (f *frozen) all() iter.Seq[*remembered] {
	return func(yield func(*remembered) bool) {
		for _, table := range f.tables {
			for i := range table {
				if r := &table[i]; !r.empty() && r.until > f.gone && !yield(r) {
					return
				}
			}
		}
	}
}

// groups are the ids by the time until when they are remembered, in no order.
func (f *frozen) groups() map[int64][]id {
	counts := make(map[int64]int)
	for r := range f.all() {
		counts[r.until]++
	}
	groups := make(map[int64][]id, len(counts))
	for until, n := range counts {
		groups[until] = make([]id, 0, n)
	}
	for r := range f.all() {
		groups[r.until] = append(groups[r.until], r.id)
	}
	return groups
}

// compareIDs orders by the bytes.
func compareIDs(a, b id) int {
	if c := cmp.Compare(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(b[:8])); c != 0 {
		return c
	}
	return cmp.Compare(binary.BigEndian.Uint64(a[8:]), binary.BigEndian.Uint64(b[8:]))
}

// sortedIDs are the ids by their bytes. They are hashes, so the first bits say nearly where an id belongs: what is left to sort is short, unless somebody chose ids whose hashes
// begin alike.
func sortedIDs(ids []id) []id {
	width := bits.Len(uint(len(ids)))
	part := func(h *id) uint64 { return binary.BigEndian.Uint64(h[:8]) >> (64 - width) }
	starts := make([]int, 1<<width+1)
	for i := range ids {
		starts[part(&ids[i])+1]++
	}
	for i := range len(starts) - 1 {
		starts[i+1] += starts[i]
	}
	sorted := make([]id, len(ids))
	next := slices.Clone(starts)
	for i := range ids {
		p := part(&ids[i])
		sorted[next[p]] = ids[i]
		next[p]++
	}
	for i := range len(starts) - 1 {
		if from, to := starts[i], starts[i+1]; to-from > 1 {
			slices.SortFunc(sorted[from:to], compareIDs)
		}
	}
	return sorted
}

// renew makes the table of a shard anew without what is over, and larger if it needs to be.
func (m *memory) renew(s *shard) {
	gone := m.line.gone
	alive := 0
	for i := range s.slots {
		if r := &s.slots[i]; !r.empty() && r.until > gone {
			alive++
		}
	}
	n := leastSlots
	for alive*16 > n*5 { // at most half as full as it may be
		n *= 2
	}
	old := s.slots
	if s.slots = m.spare; len(s.slots) != n {
		s.slots = make([]remembered, n)
	}
	s.used, m.spare = alive, nil
	mask := uint64(n - 1) //nolint:gosec // not negative
	for i := range old {
		r := &old[i]
		if r.empty() || r.until <= gone {
			continue
		}
		at := r.id.index() & mask
		for !s.slots[at].empty() {
			at = (at + 1) & mask
		}
		s.slots[at] = *r
	}
	clear(old)
	m.spare = old
}
