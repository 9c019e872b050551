package bus

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
)

// peer is a member as the assignment sees it.
type peer struct {
	name   string
	joined uint64 // the smaller, the longer it is a member
}

// assign shares the partitions of a group among its members, and returns the owner's name by partition ("" where nobody is there). Every member computes it by itself
// from the same list and comes to the same result, whatever the order of the list.
//
// It is capped rendezvous hashing: each partition ranks the members by a hash of both names, and the best matches are made first; a member takes no more than its even
// share. So nobody has more than one partition more than another, and a member that comes or goes moves few partitions of the others. With more members than
// partitions, some have none and stand by.
//
// A group with one active member is owned as a whole by the one that has been a member for the longest time: who comes takes nothing away.
func assign(partitions int, single bool, members []peer) []string {
	owners := make([]string, partitions)
	if len(members) == 0 {
		return owners
	}
	if single {
		oldest := slices.MinFunc(members, func(a, b peer) int { return cmp.Or(cmp.Compare(a.joined, b.joined), cmp.Compare(a.name, b.name)) })
		for p := range owners {
			owners[p] = oldest.name
		}
		return owners
	}
	share, larger := partitions/len(members), partitions%len(members) // so many members get one more than their share
	has := make(map[string]int, len(members))
	for _, m := range rank(partitions, members) {
		if owners[m.partition] != "" || has[m.member] > share || has[m.member] == share && larger == 0 {
			continue
		}
		if has[m.member] == share {
			larger--
		}
		has[m.member]++
		owners[m.partition] = m.member
	}
	return owners
}

// match is how well a member fits a partition.
type match struct {
	score     uint64
	partition int
	member    string
}

// rank lists every pair, the best matches first.
func rank(partitions int, members []peer) []match {
	all := make([]match, 0, partitions*len(members))
	for p := range partitions {
		for _, m := range members {
			sum := sha256.Sum256([]byte(strconv.Itoa(p) + " " + m.name)) // the same in every process, for ever
			all = append(all, match{score: binary.BigEndian.Uint64(sum[:]), partition: p, member: m.name})
		}
	}
	slices.SortFunc(all, func(a, b match) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.partition, b.partition), cmp.Compare(a.member, b.member))
	})
	return all
}
