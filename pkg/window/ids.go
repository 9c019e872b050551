package window

import "crypto/sha256"

// id is the head of the SHA-256 of an event id. Ids come from outside: with a weaker hash a producer could make one id hide another.
type id [16]byte

func hashID(s string) id {
	var buf [128]byte // an id that fits costs no allocation
	sum := sha256.Sum256(append(buf[:0], s...))
	return id(sum[:16])
}

// memory holds the ids of all events in live windows.
type memory map[id]struct{}

func (m memory) forget(ids []id) {
	for i := range ids {
		delete(m, ids[i])
	}
}
