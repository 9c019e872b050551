package bus

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawMembers(t *rapid.T, most int) []peer {
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,6}-[0-9]{1,5}-[0-9a-f]{4}`), 1, most, rapid.ID[string]).Draw(t, "names")
	members := make([]peer, len(names))
	for i, name := range names {
		members[i] = peer{name: name, joined: rapid.Uint64Range(1, 5).Draw(t, "joined")}
	}
	return members
}

// counts is how many partitions each member has, and how many nobody has.
func counts(owners []string, members []peer) (least, most, nobody int) {
	has := make(map[string]int)
	for _, o := range owners {
		has[o]++
	}
	least = len(owners)
	for _, m := range members {
		least, most = min(least, has[m.name]), max(most, has[m.name])
		delete(has, m.name)
	}
	for _, n := range has {
		nobody += n
	}
	return least, most, nobody
}

// moved is how many partitions have another owner, though their owner of before is still there.
func moved(before, after []string, gone string) int {
	n := 0
	for p := range before {
		if before[p] != gone && before[p] != after[p] {
			n++
		}
	}
	return n
}

func TestAssignIsEvenAndTheSameForAll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		partitions, members := rapid.IntRange(1, 64).Draw(t, "partitions"), drawMembers(t, 20)
		owners := assign(partitions, false, members)
		if least, most, nobody := counts(owners, members); most-least > 1 || nobody > 0 {
			t.Fatalf("one has %d, another %d, nobody %d", least, most, nobody)
		}
		shuffled := rapid.Permutation(members).Draw(t, "shuffled")
		if again := assign(partitions, false, shuffled); !slices.Equal(owners, again) {
			t.Fatalf("another order of the list gives %v, want %v", again, owners)
		}
		for i := range shuffled {
			shuffled[i].joined = uint64(i) // only a group with one active member asks for it
		}
		if again := assign(partitions, false, shuffled); !slices.Equal(owners, again) {
			t.Fatalf("the time of joining changes the result")
		}
	})
}

// Who comes takes its share, who goes leaves it: beyond that, few partitions move. The least that could move is what the new member gets.
func TestAssignMovesFew(t *testing.T) {
	t.Parallel()
	var moves, least, trials int
	rapid.Check(t, func(t *rapid.T) {
		partitions, members := rapid.IntRange(1, 32).Draw(t, "partitions"), drawMembers(t, 9)
		newcomer := peer{name: "newcomer-1-" + fmt.Sprint(rapid.Uint16().Draw(t, "suffix"))}
		before, after := assign(partitions, false, members), assign(partitions, false, append(slices.Clone(members), newcomer))
		share := 0
		for _, o := range after {
			if o == newcomer.name {
				share++
			}
		}
		n := moved(before, after, "")
		moves, least, trials = moves+n, least+share, trials+1
		if n > partitions*3/4+1 {
			t.Fatalf("%d of %d partitions moved when one of %d members came, of which it has %d", n, partitions, len(members)+1, share)
		}
		if stays := moved(after, before, newcomer.name); stays != n-share { // going is coming backwards
			t.Fatalf("%d others move when it goes, %d when it comes", stays, n-share)
		}
	})
	t.Logf("%d trials: %.2f moves each time that a member comes; %.2f is the least possible", trials, float64(moves)/float64(trials), float64(least)/float64(trials))
	if 2*moves > 3*least {
		t.Errorf("%d moves, want at most half as many again as the least possible, %d", moves, least)
	}
}

func TestAssignSingle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		partitions, members := rapid.IntRange(1, 16).Draw(t, "partitions"), drawMembers(t, 6)
		owners := assign(partitions, true, members)
		for _, o := range owners {
			if o != owners[0] {
				t.Fatalf("owners %v, want one", owners)
			}
		}
		if again := assign(partitions, true, append(slices.Clone(members), peer{name: "a", joined: 6})); !slices.Equal(again, owners) {
			t.Fatalf("a newcomer took over: %v, want %v", again, owners)
		}
	})
	if got := assign(2, true, []peer{{"b", 1}, {"a", 1}, {"0", 2}}); !slices.Equal(got, []string{"a", "a"}) {
		t.Errorf("owners %v, want a, who joined first", got)
	}
}

func TestAssignNobody(t *testing.T) {
	t.Parallel()
	if got := assign(2, false, nil); !slices.Equal(got, []string{"", ""}) {
		t.Errorf("owners %v of a group without members", got)
	}
}

// The result is part of the protocol between members of different versions: a change here leaves partitions without a reader during a rolling update, for as long as it
// takes until somebody finds them orphaned.
func TestAssignIsStable(t *testing.T) {
	t.Parallel()
	got := assign(8, false, []peer{{name: "a-1-0000"}, {name: "b-2-1111"}, {name: "c-3-2222"}})
	want := []string{"b-2-1111", "b-2-1111", "c-3-2222", "c-3-2222", "a-1-0000", "a-1-0000", "b-2-1111", "c-3-2222"}
	if !slices.Equal(got, want) {
		t.Errorf("owners %v, want %v", got, want)
	}
}
