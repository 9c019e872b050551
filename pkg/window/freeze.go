package window

import (
	"encoding/binary"
	"slices"
	"strings"
)

// sheaf is what a snapshot says of keys: a piece for each. A snapshot has keys and ids in their order, so that the same state gives the same bytes, and to bring them into it takes longer than
// all else. So who freezes only takes down what would change, in any order, and who writes sorts.
type sheaf struct {
	raw  []byte // the pieces, without the ids in them
	keys []sheafKey
	ids  []sheafIDs
}

type sheafKey struct {
	name     string
	from, to place // of its piece
}

// place is how far raw and ids are.
type place struct{ raw, ids int }

// sheafIDs belong behind a part of a piece. They are a list that only grows, so nothing is copied.
type sheafIDs struct {
	behind int // of raw
	all    []id
}

func newSheaf(keys int) *sheaf { return &sheaf{keys: make([]sheafKey, 0, keys)} }

// add begins the piece of a key; what is added to raw and ids then, up to end, is its.
func (s *sheaf) add(name string) {
	s.keys = append(s.keys, sheafKey{name: name, from: s.place()})
}

func (s *sheaf) end() { s.keys[len(s.keys)-1].to = s.place() }

func (s *sheaf) place() place { return place{len(s.raw), len(s.ids)} }

func (s *sheaf) addIDs(all []id) { s.ids = append(s.ids, sheafIDs{len(s.raw), all}) }

// write appends the number of keys, and then each with its piece.
func (s *sheaf) write(b []byte) []byte {
	slices.SortFunc(s.keys, func(a, b sheafKey) int { return strings.Compare(a.name, b.name) })
	b = binary.AppendUvarint(b, uint64(len(s.keys)))
	for _, k := range s.keys {
		b = appendText(b, k.name)
		at := k.from.raw
		for _, ids := range s.ids[k.from.ids:k.to.ids] {
			b = appendIDs(append(b, s.raw[at:ids.behind]...), ids.all)
			at = ids.behind
		}
		b = append(b, s.raw[at:k.to.raw]...)
	}
	return b
}

// frozenWindow is a window with what its keys have.
type frozenWindow struct {
	Window
	keys *sheaf
}

func appendFrozen(b []byte, all []frozenWindow) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, w := range all {
		b = w.keys.write(appendWindow(b, w.Window))
	}
	return b
}

func (a *aligned) freezeSlices() []frozenWindow {
	all := make([]frozenWindow, len(a.slices))
	for i, s := range a.slices {
		all[i] = frozenWindow{s.Window, freezeKeys(s.cells, func(b []byte, c *cell) []byte { return c.append(b) })}
	}
	return all
}

func (a *aligned) freezeRevised() []frozenWindow {
	all := make([]frozenWindow, len(a.revised))
	for i, r := range a.revised {
		all[i] = frozenWindow{r.Window, freezeKeys(r.keys, func(b []byte, v *revision) []byte {
			return binary.AppendUvarint(b, uint64(v.number)) //nolint:gosec // 1 or more
		})}
	}
	return all
}

func freezeKeys[V any](keys map[string]V, write func([]byte, V) []byte) *sheaf {
	s := newSheaf(len(keys))
	for name, v := range keys {
		s.add(name)
		s.raw = write(s.raw, v)
		s.end()
	}
	return s
}

func (s *sessions) freeze() *sheaf {
	keys := newSheaf(len(s.keys))
	for name, k := range s.keys {
		keys.add(name)
		keys.raw = binary.AppendVarint(keys.raw, k.tombstone)
		keys.raw = binary.AppendUvarint(keys.raw, uint64(len(k.live)))
		for _, l := range k.live {
			keys.raw = appendWindow(keys.raw, l.Window)
			keys.raw = binary.AppendUvarint(keys.raw, uint64(l.revision)) //nolint:gosec // 0 or more
			keys.raw = l.cell.append(keys.raw)
			keys.addIDs(l.ids)
		}
		keys.end()
	}
	return keys
}
