// Package suite is the end-to-end suite: what must hold of Tidemark wherever it runs. It is written against a [target.Target] and knows nothing else of the system: see the rules in
// internal/arch.
//
// The system may be in use, and may have been for months: every case has articles, customers and moments of its own, and compares what it changed, not what there is.
//
// Cases that harm nobody run at the same time. Those that break something on purpose (kill a part, let the gateway fail, move a group back) run after them, one by one. At the end the
// invariants of the whole system must hold.
package suite

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/e2e/target"
)

// Case is one thing that must hold.
type Case struct {
	Name  string
	Needs []target.Capability
	Alone bool // it disturbs others, or is disturbed by them
	Run   func(s *Shop)
}

// Cases is the whole suite, in the order in which what runs alone is run.
func Cases() []Case {
	verbs, faults, kill := target.Verbs, target.Faults, target.Kill
	needs := func(all ...target.Capability) []target.Capability { return all }
	return []Case{
		{Name: "an order is confirmed", Run: confirmed},
		{Name: "it is paid once and told once", Needs: needs(faults), Run: paidAndTold},
		{Name: "requests that break a rule are refused", Run: refused},
		{Name: "a repeated request is the same request", Run: repeated},
		{Name: "what is not there is not sold", Run: outOfStock},
		{Name: "many at once do not sell a unit twice", Run: lastUnits},
		{Name: "a click counts once", Run: clicks},
		{Name: "one order is one trace", Needs: needs(target.Traces), Run: traced},
		{Name: "a declined payment ends the order", Needs: needs(faults), Alone: true, Run: declined},
		{Name: "the customer cancels while the payment is under way", Needs: needs(faults), Alone: true, Run: cancelled},
		{Name: "an order ends at its deadline", Needs: needs(faults, verbs), Alone: true, Run: deadline},
		{Name: "late events, windows and backfill are what a batch says", Alone: true, Run: lateEvents},
		{Name: "poison, dead letter, repair, replay", Needs: needs(faults, verbs), Alone: true, Run: poison},
		{Name: "parts are killed under load", Needs: needs(faults, verbs, kill), Alone: true, Run: killed},
		{Name: "every part is replaced under load", Needs: needs(faults, verbs, target.Roll), Alone: true, Run: rolled},
		{Name: "reading again changes nothing", Needs: needs(faults, verbs), Alone: true, Run: replayed},
		{Name: "the invariants hold", Needs: needs(verbs), Alone: true, Run: holds},
	}
}

// Select parts the cases into those that a target has everything for and the others.
func Select(cases []Case, t *target.Target) (selected, others []Case) {
	for _, c := range cases {
		if len(c.lacks(t)) == 0 {
			selected = append(selected, c)
			continue
		}
		others = append(others, c)
	}
	return selected, others
}

func (c Case) lacks(t *target.Target) (missing []string) {
	for _, need := range c.Needs {
		if !t.Can(need) {
			missing = append(missing, string(need))
		}
	}
	return missing
}

// Run runs what the target has everything for, and says what that leaves out.
func Run(t *testing.T, at *target.Target) {
	t.Helper()
	selected, others := Select(Cases(), at)
	for _, c := range others {
		t.Logf("NOT OF THIS TARGET, %s: %q needs %s", at.Name, c.Name, strings.Join(c.lacks(at), ", "))
	}
	if len(selected) == 0 {
		t.Fatal("no case is for this target")
	}
	t.Run("together", func(t *testing.T) {
		for _, c := range selected {
			if !c.Alone {
				t.Run(c.Name, func(t *testing.T) {
					t.Parallel()
					c.Run(open(t, at))
				})
			}
		}
	})
	for _, c := range selected {
		if c.Alone && !t.Run(c.Name, func(t *testing.T) { c.Run(open(t, at)) }) && t.Context().Err() != nil {
			return
		}
	}
}

// Only is those cases of the suite, by their names.
func Only(t *testing.T, at *target.Target, names ...string) {
	t.Helper()
	for _, name := range names {
		i := slices.IndexFunc(Cases(), func(c Case) bool { return c.Name == name })
		if i < 0 {
			t.Fatalf("no case is called %q", name)
		}
		c := Cases()[i]
		if missing := c.lacks(at); len(missing) > 0 {
			t.Fatalf("%q needs %s", name, fmt.Sprint(missing))
		}
		t.Run(c.Name, func(t *testing.T) { c.Run(open(t, at)) })
	}
}
