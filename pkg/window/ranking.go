package window

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
)

// ranking is the accumulator of [Top].
type ranking struct {
	k     int
	items map[string]wide
}

func (r *ranking) Add(event []Part) {
	for _, p := range event {
		s, known := r.items[p.Item]
		s.add(p.Value)
		if !known {
			p.Item = strings.Clone(p.Item)
		}
		r.items[p.Item] = s
	}
}

func (r *ranking) Merge(other Accumulator) {
	for item, o := range other.(*ranking).items { //nolint:errcheck // of the same aggregate
		s := r.items[item]
		s.merge(o)
		r.items[item] = s
	}
}

func (r *ranking) Value() Value {
	type entry struct {
		item string
		sum  wide
	}
	order := func(a, b entry) int {
		switch {
		case b.sum.less(&a.sum):
			return -1
		case a.sum.less(&b.sum):
			return 1
		}
		return strings.Compare(a.item, b.item)
	}
	var total wide
	k := min(r.k, len(r.items))
	largest := make([]entry, 0, 2*k) // cut down to k whenever it is full
	var least wide                   // of those that were left then
	cut := false
	for item, s := range r.items {
		total.merge(s)
		if cut && s.less(&least) {
			continue
		}
		if largest = append(largest, entry{item, s}); len(largest) == 2*k {
			slices.SortFunc(largest, order)
			largest = largest[:k]
			least, cut = largest[k-1].sum, true
		}
	}
	slices.SortFunc(largest, order)
	v := Value{Number: total.int64()}
	for _, e := range largest[:k] {
		v.Top = append(v.Top, Rank{Item: e.item, Sum: e.sum.int64()})
	}
	return v
}

func (r *ranking) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(r.items)))
	for _, item := range slices.Sorted(maps.Keys(r.items)) {
		s := r.items[item]
		b = s.append(appendText(b, item))
	}
	return b
}

func (r *ranking) Restore(b []byte) error {
	in := reader{rest: b}
	for range in.uvarint() {
		if in.err != nil {
			break
		}
		item := in.text()
		r.items[item] = in.wide()
	}
	return in.done(errAccumulator)
}
