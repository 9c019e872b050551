package events_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

// contractErrors are the ways in which streams, channels, groups and the catalogue contradict each other.
func contractErrors(topology *events.Topology, catalogue []string) []string {
	var out []string
	broken := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	seen, addresses := map[string]bool{}, map[string]bool{}
	published := map[string]bool{}
	for _, c := range topology.Channels {
		if seen[c.Name] || addresses[c.Address] {
			broken("channel %s (%s) is declared twice", c.Name, c.Address)
		}
		seen[c.Name], addresses[c.Address] = true, true
		stream, ok := topology.Stream(c.Stream)
		switch {
		case !ok:
			broken("channel %s is kept in %s, which there is not", c.Name, c.Stream)
		case !coveredByOne(stream.Subjects, c.Filter()):
			broken("channel %s: %s is no subject of %s", c.Name, c.Address, c.Stream)
		}
		if c.Description == "" || (len(c.Types) == 0) == (c.Other == "") {
			broken("channel %s needs a description, and either event types or what else it carries", c.Name)
		}
		for _, service := range c.Senders {
			if !slices.Contains(stream.Publishers, service) {
				broken("channel %s: %s sends here, but is no publisher of %s", c.Name, service, c.Stream)
			}
		}
		for _, eventType := range c.Types {
			published[eventType] = true
			if !slices.Contains(catalogue, eventType) {
				broken("channel %s carries %s, which is not in the catalogue", c.Name, eventType)
			}
		}
	}
	for _, eventType := range catalogue {
		if !published[eventType] {
			broken("%s is in the catalogue, and no channel carries it: say where it is published in channels.go", eventType)
		}
	}
	for _, s := range topology.Streams {
		var senders []string
		for _, c := range topology.ChannelsOf(s.Name) {
			if c.Stream == s.Name {
				senders = append(senders, c.Senders...)
			}
		}
		for _, service := range s.Publishers {
			if !slices.Contains(senders, service) {
				broken("%s publishes to %s, but sends on none of its channels", service, s.Name)
			}
		}
		for _, subject := range s.Subjects {
			if !slices.ContainsFunc(topology.Channels, func(c events.Channel) bool { return c.Stream == s.Name && covers(subject, c.Filter()) }) {
				broken("stream %s keeps %s, and no channel says what that is: add it to channels.go", s.Name, subject)
			}
		}
	}
	for _, g := range topology.Groups {
		if len(g.Handles) == 0 {
			broken("group %s does not say which event types it handles", g.Name)
		}
		for _, eventType := range g.Handles {
			if !slices.Contains(topology.TypesOf(g.Stream), eventType) {
				broken("group %s handles %s, which nobody publishes to %s", g.Name, eventType, g.Stream)
			}
		}
	}
	return out
}

// The contract of each consumer: what a group handles is published where it reads.
func TestContractHoldsTogether(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	for _, broken := range contractErrors(&topology, newRegistry(t).Types()) {
		t.Error(broken)
	}
}

func TestContractErrorsAreFound(t *testing.T) {
	t.Parallel()
	types := newRegistry(t).Types()
	channel := func(topology *events.Topology, name string) *events.Channel {
		i := slices.IndexFunc(topology.Channels, func(c events.Channel) bool { return c.Name == name })
		return &topology.Channels[i]
	}
	for want, harm := range map[string]func(*events.Topology){
		"group notify handles shop.stock.reserved.v1, which nobody publishes to ORDERS": func(t *events.Topology) {
			for i := range t.Groups {
				if t.Groups[i].Name == events.GroupNotify {
					t.Groups[i].Handles = []string{events.TypeStockReserved}
				}
			}
		},
		"group notify does not say": func(t *events.Topology) {
			for i := range t.Groups {
				if t.Groups[i].Name == events.GroupNotify {
					t.Groups[i].Handles = nil
				}
			}
		},
		"shop.event.late.v1 is in the catalogue, and no channel carries it": func(t *events.Topology) { channel(t, "late").Types = nil },
		"channel late needs a description, and either":                      func(t *events.Topology) { channel(t, "late").Types = nil },
		"shop.event.lost.v1, which is not in the catalogue":                 func(t *events.Topology) { channel(t, "late").Types = []string{"shop.event.lost.v1"} },
		"no subject of LATE":                        func(t *events.Topology) { channel(t, "late").Address = "later.{x}" },
		"stream LATE keeps late.*.*, and no":        func(t *events.Topology) { channel(t, "late").Address = "later.{x}" },
		"notify sends here, but is no publisher":    func(t *events.Topology) { channel(t, "late").Senders = []string{events.ServiceNotify} },
		"analytics publishes to LATE, but sends on": func(t *events.Topology) { channel(t, "late").Senders = nil },
		"which there is not":                        func(t *events.Topology) { channel(t, "late").Stream = "NONE" },
		"is declared twice":                         func(t *events.Topology) { channel(t, "late").Name = "orders" },
	} {
		topology := events.DefaultTopology(0)
		harm(&topology)
		if got := contractErrors(&topology, types); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
}

func TestChannelsSpellTheirSubjects(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	s := topology.Subjects()
	subjects := map[string]string{
		"orders": s.Order("1"), "stock-orders": s.StockOrder("1"), "stock-items": s.StockSKU("a"), "notices": s.Notice("1", 2, "email"), "clicks": s.Click("ann"),
		"tick-schedule": events.SubjectTickSchedule, "ticks": events.SubjectTick, "windows": s.Window("q", "k", 1), "commits": s.Commit("q", 0),
		"late": s.Late("too_late", "q"), "letters": s.Letter(events.GroupNotify, 3, "1"), "letter-states": s.LetterState(events.GroupNotify, "1"), "letter-jobs": s.Job(events.GroupNotify, "1"), "crashes": s.Crash(events.GroupNotify, 3), "timers": s.Timer("1"), "timeouts": s.Timeout("1"),
	}
	for _, name := range slices.Sorted(maps.Keys(subjects)) {
		var matching []string
		for _, c := range topology.Channels {
			// "stock.main.sku.a" has the shape of "stock.main.<partition>.<order>" too; no partition is called "sku".
			if covers(c.Filter(), subjects[name]) && (c.Name != "stock-orders" || name != "stock-items") {
				matching = append(matching, c.Name)
			}
		}
		if !slices.Equal(matching, []string{name}) {
			t.Errorf("%s matches the channels %q, want %s alone", subjects[name], matching, name)
		}
	}
	for _, c := range []struct {
		filter, address string
		want            bool
	}{
		{"a.{p}.*", "a.{partition}.{key}", true}, {"a.{p}.*", "a.sku.{key}", false}, {"a.{p}.*", "a.{partition}", false}, {"a.{p}", "a.{partition}.{key}", false},
		{"a.>", "a.{partition}.{key}", true}, {"b.{p}", "a.{partition}", false}, {"", "a", true},
	} {
		if got := (events.Group{Filter: c.filter}).Reads(events.Channel{Address: c.address}); got != c.want {
			t.Errorf("a group with the filter %q reads %q: %t", c.filter, c.address, got)
		}
	}
	if got := topology.Channels[0].Parameters(); !slices.Equal(got, []string{"partition", "order"}) {
		t.Errorf("parameters %q", got)
	}
	if got := topology.TypesOf(events.StreamTimeline); !slices.Equal(got, []string{events.TypeOrderCancelled, events.TypeOrderConfirmed, events.TypeOrderPlaced, events.TypeOrderRejected, events.TypePageClicked}) {
		t.Errorf("TIMELINE keeps %q", got)
	}
}
