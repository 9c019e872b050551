package e2e_test

import (
	"slices"
	"testing"

	"github.com/tidemark/tidemark/e2e/suite"
	"github.com/tidemark/tidemark/e2e/target"
)

// TestSuite runs the end-to-end suite against the target that TIDEMARK_E2E_TARGET names; without it, against two that it starts itself.
func TestSuite(t *testing.T) {
	t.Parallel()
	if at := outside(t); at != nil {
		suite.Run(t, at)
		return
	}
	for name, start := range shapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			suite.Run(t, start(t))
		})
	}
}

// shapes are the targets that need nothing but this machine.
func shapes() map[string]func(*testing.T) *target.Target {
	return map[string]func(*testing.T) *target.Target{"one process": inOneProcess, "processes": inProcesses}
}

// What the local targets leave out of the suite, some other target of the gate must have: only what needs a Jaeger is left to it.
func TestSuiteIsRunWhole(t *testing.T) {
	t.Parallel()
	part := target.Part{Kill: (&process{}).killed, Roll: (&process{}).killed}
	_, others := suite.Select(suite.Cases(), &target.Target{API: "x", Gateway: "x", Broker: true, Parts: []target.Part{part}})
	for _, c := range others {
		if !slices.Equal(c.Needs, []target.Capability{target.Traces}) {
			t.Errorf("no target runs %q: it needs %v", c.Name, c.Needs)
		}
	}
	if selected, _ := suite.Select(suite.Cases(), &target.Target{API: "x"}); len(selected) == 0 || len(selected) == len(suite.Cases()) {
		t.Errorf("a target of which only the URL is known has %d cases", len(selected))
	}
}
