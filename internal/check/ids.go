package check

import (
	"cmp"
	"hash/maphash"
	"slices"
)

// idIndex holds the event ids of one log as 64-bit hashes with their sequences: 16 bytes an event where a set of the ids themselves takes a hundred. A
// hash that is not there proves that the id is not there. One that is there twice is only a suspicion: whoever asks reads the two events.
type idIndex struct {
	entries []idEntry
	sorted  int // so many entries are in order
}

type idEntry struct{ hash, sequence uint64 }

func (x *idIndex) add(hash, sequence uint64) {
	x.entries = append(x.entries, idEntry{hash, sequence})
}

func (x *idIndex) sort() {
	if x.sorted == len(x.entries) {
		return
	}
	slices.SortFunc(x.entries, func(a, b idEntry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.sequence, b.sequence))
	})
	x.sorted = len(x.entries)
}

func (x *idIndex) has(hash uint64) bool {
	x.sort()
	_, found := slices.BinarySearchFunc(x.entries, hash, func(e idEntry, h uint64) int { return cmp.Compare(e.hash, h) })
	return found
}

// twice calls yield with the sequences of each two neighbours that have the same hash.
func (x *idIndex) twice(yield func(first, second uint64) error) error {
	x.sort()
	for i := 1; i < len(x.entries); i++ {
		if x.entries[i].hash != x.entries[i-1].hash {
			continue
		}
		if err := yield(x.entries[i-1].sequence, x.entries[i].sequence); err != nil {
			return err
		}
	}
	return nil
}

// hasher hashes texts under a seed of this run.
type hasher struct{ seed maphash.Seed }

func newHasher() hasher { return hasher{seed: maphash.MakeSeed()} }

func (h hasher) text(s string) uint64 { return maphash.String(h.seed, s) }

// lines hashes what is ordered: the sum of quantity times the hash of the SKU. It is the same in whatever order lines stand and however
// they are split.
func (h hasher) lines(lines []line) uint64 {
	var sum uint64
	for _, l := range lines {
		sum += uint64(l.Quantity) * h.text(l.SKU) //nolint:gosec // wraps around, as is meant
	}
	return sum
}
