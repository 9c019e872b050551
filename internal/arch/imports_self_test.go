package arch

import (
	"strings"
	"testing"
)

// One small bad graph for each rule, and one good one, so that a rule that finds nothing is known to look.
func TestImportRulesFind(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		bad  []pkg
		good []pkg
	}{
		"a service shares pkg/events and nothing else": {
			bad: []pkg{
				{ImportPath: "./services/order", Imports: []string{"./services/notify"}},
				{ImportPath: "./services/order", Imports: []string{"./internal/run"}},
				{ImportPath: "./services/order/inner", Imports: []string{"./services/notify/inner"}},
				{ImportPath: "./services/order", TestImports: []string{"./services/notify"}},
			},
			good: []pkg{{ImportPath: "./services/analytics", Imports: []string{"./pkg/events/bus", "./pkg/window", "./services/analytics/inner"}, TestImports: []string{"./internal/gateway"}}},
		},
		"pkg/window imports the standard library only": {
			bad:  []pkg{{ImportPath: "./pkg/window", Imports: []string{"golang.org/x/sync/errgroup"}}, {ImportPath: "./pkg/window", Imports: []string{"./pkg/events"}}},
			good: []pkg{{ImportPath: "./pkg/window", Imports: []string{"time", "encoding/json"}, TestImports: []string{"pgregory.net/rapid"}}},
		},
		"pkg/events does not import NATS": {
			bad:  []pkg{{ImportPath: "./pkg/events", Imports: []string{"github.com/nats-io/nats.go"}}},
			good: []pkg{{ImportPath: "./pkg/events/bus", Imports: []string{"github.com/nats-io/nats.go"}}},
		},
		"libraries do not import programs": {
			bad:  []pkg{{ImportPath: "./pkg/events/bus", Imports: []string{"./internal/telemetry"}}, {ImportPath: "./pkg/window", Imports: []string{"./services/order"}}},
			good: []pkg{{ImportPath: "./pkg/events/bus", Imports: []string{"./pkg/events"}}},
		},
		"a service's program does not link nats-server": {
			bad:  []pkg{{ImportPath: "./cmd/order", Imports: []string{"github.com/nats-io/nats-server/v2/server"}}},
			good: []pkg{{ImportPath: "./cmd/tidemark", Imports: []string{"github.com/nats-io/nats-server/v2/server"}}},
		},
		"a program does not link test code": {
			bad:  []pkg{{ImportPath: "./cmd/tidemark", Imports: []string{"testing"}}, {ImportPath: "./cmd/order", Imports: []string{"./pkg/events/eventstest"}}},
			good: []pkg{{ImportPath: "./cmd/tidemark", Imports: []string{"os"}, TestImports: []string{"testing"}}},
		},
		"the end-to-end suite knows its target only": {
			bad:  []pkg{{ImportPath: "./e2e/suite", Imports: []string{"./internal/client"}}, {ImportPath: "./e2e/suite", Imports: []string{"github.com/nats-io/nats.go"}}},
			good: []pkg{{ImportPath: "./e2e/suite", Imports: []string{"./e2e/target", "testing"}}, {ImportPath: "./e2e/target", Imports: []string{"context"}}},
		},
		"a service's program runs its own service only": {
			bad:  []pkg{{ImportPath: "./cmd/order", Imports: []string{"./services/notify"}}},
			good: []pkg{{ImportPath: "./cmd/order", Imports: []string{"./services/order"}}, {ImportPath: "./cmd/tidemark", Imports: []string{"./services/notify"}}},
		},
	}
	for _, rule := range importRules() {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			c, ok := cases[rule.name]
			if !ok {
				t.Fatal("this rule has no bad example")
			}
			for _, p := range c.bad {
				if len(rule.findings(graph{p.ImportPath: p})) == 0 {
					t.Errorf("does not find %+v", p)
				}
			}
			for _, p := range c.good {
				if found := rule.findings(graph{p.ImportPath: p}); len(found) > 0 {
					t.Errorf("finds %v", found)
				}
			}
		})
	}
}

// An import of an import counts, and the finding shows the way.
func TestImportRulesFollowTheWay(t *testing.T) {
	t.Parallel()
	g := graph{
		"./cmd/order":       {ImportPath: "./cmd/order", Imports: []string{"./internal/helper"}},
		"./internal/helper": {ImportPath: "./internal/helper", Imports: []string{"example.org/x"}},
		"example.org/x":     {ImportPath: "example.org/x", Imports: []string{"github.com/nats-io/nats-server/v2/server"}},
	}
	for _, rule := range importRules() {
		if rule.name != "a service's program does not link nats-server" {
			continue
		}
		found := rule.findings(g)
		if len(found) != 1 || !strings.Contains(found[0], "./cmd/order > ./internal/helper > example.org/x > github.com/nats-io/nats-server/v2/server") {
			t.Fatalf("found %v", found)
		}
		return
	}
	t.Fatal("the rule is gone")
}
