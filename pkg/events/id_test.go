package events_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
)

func TestNewIDIsATokenAndNeverTheSame(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 10_000 {
		id := events.NewID()
		if seen[id] {
			t.Fatalf("%s came twice", id)
		}
		seen[id] = true
		if !events.ValidID(id) || events.Token(id) != id {
			t.Fatalf("%q is no id, or no token", id)
		}
	}
}

// The values are pinned: stored events carry ids that were derived like this. Another algorithm would make every redelivery look new.
func TestDeriveIDIsForEver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want  string
		parts []string
	}{
		{"4oymiquy7qobjgx36tejs35zeq", nil},
		{"xj3iwmy73bwozab34bhfnkzlhu", []string{""}},
		{"qo7zsod3fak644eae5kfaisdxm", []string{"local", "536365"}},
		{"kmiklb4ipanlexk227b7qubvqi", []string{"a", "bc"}},
		{"imh3dnfmimyw5sub7kzhugjqvm", []string{"ab", "c"}},
		{"nrnqvpa7zoyfhfqgdsp3jkiyre", []string{"€", "\x00"}},
	} {
		if got := events.DeriveID(c.parts...); got != c.want {
			t.Errorf("DeriveID(%q) = %s, want %s", c.parts, got, c.want)
		}
	}
}

func TestDeriveIDKeepsPartsApart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.String(), 1, 4)
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		same := len(a) == len(b)
		for i := 0; same && i < len(a); i++ {
			same = a[i] == b[i]
		}
		if (events.DeriveID(a...) == events.DeriveID(b...)) != same {
			t.Fatalf("ids of %q and %q", a, b)
		}
		if !events.ValidID(events.DeriveID(a...)) {
			t.Fatalf("%q is no id", events.DeriveID(a...))
		}
	})
}

func TestValidID(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"abcdefghijklmnopqrstuvwxyz": true, "22222222222222222222222222": true, "": false, "abcdefghijklmnopqrstuvwxy": false,
		"abcdefghijklmnopqrstuvwxyzz": false, "ABCDEFGHIJKLMNOPQRSTUVWXYZ": false, "abcdefghijklmnopqrstuvwxy1": false, "abcdefghijklmnopqrstuvwxy.": false,
	} {
		if got := events.ValidID(s); got != want {
			t.Errorf("ValidID(%q) = %t", s, got)
		}
	}
}
