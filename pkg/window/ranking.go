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
	var total wide
	all := make([]entry, 0, len(r.items))
	for item, s := range r.items {
		all = append(all, entry{item, s})
		total.merge(s)
	}
	slices.SortFunc(all, func(a, b entry) int {
		switch {
		case b.sum.less(&a.sum):
			return -1
		case a.sum.less(&b.sum):
			return 1
		}
		return strings.Compare(a.item, b.item)
	})
	v := Value{Number: total.int64()}
	for _, e := range all[:min(r.k, len(all))] {
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
