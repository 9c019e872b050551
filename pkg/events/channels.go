package events

import (
	"slices"
	"strings"
)

// Channel is one shape of subjects, and what is published under it. The topology's streams say where messages are kept; its channels say what
// they are: pages, the AsyncAPI document and contract tests are made from both.
type Channel struct {
	Name        string
	Description string
	Stream      string
	Address     string   // the subject as it is published; "{name}" stands for one token
	Types       []string // event types of the catalogue that are published here
	Other       string   // what is published here that is no event of the catalogue
	Senders     []string // services; none: the broker publishes
}

// Parameters are the names in the channel's address, in their order.
func (c Channel) Parameters() []string {
	var names []string
	for token := range strings.SplitSeq(c.Address, ".") {
		if strings.HasPrefix(token, "{") {
			names = append(names, strings.Trim(token, "{}"))
		}
	}
	return names
}

// Filter is the subject filter that matches what is published under the channel's address: "*" for each parameter.
func (c Channel) Filter() string {
	tokens := strings.Split(c.Address, ".")
	for i, token := range tokens {
		if strings.HasPrefix(token, "{") {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// ChannelsOf are the channels whose messages a stream keeps: its own, and those of the streams that it copies.
func (t *Topology) ChannelsOf(stream string) []Channel {
	var out []Channel
	for _, c := range t.Channels {
		if c.Stream == stream {
			out = append(out, c)
		}
	}
	s, _ := t.Stream(stream)
	for _, source := range s.Sources {
		for _, c := range t.ChannelsOf(source.Stream) {
			if source.Filter == "" || source.Filter == c.Filter() {
				out = append(out, c)
			}
		}
	}
	return out
}

// TypesOf are the event types that a stream keeps, sorted.
func (t *Topology) TypesOf(stream string) []string {
	var types []string
	for _, c := range t.ChannelsOf(stream) {
		types = append(types, c.Types...)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// Reads reports whether what is published on a channel can be within the group's filter.
func (g Group) Reads(c Channel) bool {
	if g.Filter == "" {
		return true
	}
	filter, subject := strings.Split(g.FilterOf(0), "."), strings.Split(c.Filter(), ".")
	for i := range filter {
		if filter[i] == ">" {
			return true
		}
		if i >= len(subject) || filter[i] != subject[i] && filter[i] != "*" && subject[i] != "*" {
			return false
		}
	}
	return len(filter) == len(subject)
}

// handledBy are the event types that a group's handler answers. It passes over all others, also those that it does not know. A test in each service
// asks the handlers themselves.
func handledBy(group string) []string {
	switch group {
	case GroupInventory, GroupNotify:
		return []string{TypeOrderPlaced, TypeOrderConfirmed, TypeOrderRejected, TypeOrderCancelled}
	case GroupOrderStock:
		return []string{TypeStockReserved, TypeStockRejected}
	case GroupOrderDeadlines:
		return []string{TypeOrderDeadline}
	case GroupAnalytics:
		return []string{TypeOrderPlaced, TypePageClicked}
	}
	return nil
}

func defaultChannels() []Channel {
	return []Channel{
		{
			Name: "orders", Stream: StreamOrders, Address: "orders.{partition}.{order}", Senders: []string{ServiceOrder},
			Types: []string{TypeOrderPlaced, TypeOrderConfirmed, TypeOrderRejected, TypeOrderCancelled}, Description: "what happened to one order",
		},
		{
			Name: "stock-orders", Stream: StreamStock, Address: "stock.main.{partition}.{order}", Senders: []string{ServiceInventory},
			Types: []string{TypeStockReserved, TypeStockRejected, TypeStockCommitted, TypeStockReleased}, Description: "what the warehouse decided about one order",
		},
		{
			Name: "stock-items", Stream: StreamStock, Address: "stock.main.sku.{sku}", Senders: []string{ServiceInventory},
			Types: []string{TypeStockReceived}, Description: "what came in of one article",
		},
		{
			Name: "notices", Stream: StreamNotices, Address: "notices.{partition}.{order}.{version}.{channel}", Senders: []string{ServiceNotify},
			Types: []string{TypeNoticeSent, TypeNoticeSkipped}, Description: "what was sent for one version of an order over one channel; one message at most",
		},
		{
			Name: "clicks", Stream: StreamClicks, Address: "clicks.{user}", Senders: []string{ServiceAnalytics},
			Types: []string{TypePageClicked}, Description: "the clicks of one user; producers in any language may publish here, the server adds the partition",
		},
		{
			Name: "tick-schedule", Stream: StreamTicks, Address: SubjectTickSchedule,
			Other: "the schedule of the heartbeats, stored when the topology is applied", Description: "makes the heartbeats",
		},
		{
			Name: "ticks", Stream: StreamTicks, Address: SubjectTick,
			Other: "an empty message once a second", Description: "the heartbeats: they tell the time while nothing else comes",
		},
		{
			Name: "windows", Stream: StreamWindows, Address: "windows.{query}.{key}.{start}", Senders: []string{ServiceAnalytics},
			Types: []string{TypeWindowResult}, Description: "the results of one window, a message a revision",
		},
		{
			Name: "commits", Stream: StreamWindows, Address: "commit.{query}.{shard}", Senders: []string{ServiceAnalytics},
			Other: "a commit record of analytics: how far it has read, and what came out", Description: "where analytics goes on after a restart",
		},
		{
			Name: "late", Stream: StreamLate, Address: "late.{reason}.{query}", Senders: []string{ServiceAnalytics},
			Types: []string{TypeEventLate}, Description: "events that a query did not count in some window, and why",
		},
		{
			Name: "alerts", Stream: StreamAlerts, Address: "alerts.{alert}.{key}.{start}", Senders: []string{ServiceAnalytics},
			Types: []string{TypeAlertVelocity}, Description: "an alert about one window, once",
		},
		{
			Name: "letters", Stream: StreamDLQ, Address: "dlq.{group}.{partition}.{key}", Senders: allServices(),
			Other: "an event as it came, whatever it was, with what went wrong in the headers Dlq-…", Description: "the dead letters of one group and key",
		},
		{
			Name: "letter-states", Stream: StreamDLQCtl, Address: "dlqctl.letter.{group}.{id}", Senders: allServices(),
			Other: "a letter's new state", Description: "the history of one dead letter: the last message is its state",
		},
		{
			Name: "letter-jobs", Stream: StreamDLQCtl, Address: "dlqctl.job.{group}.{id}", Senders: allServices(),
			Other: "the state of a job over many letters", Description: "the history of one job over many letters",
		},
		{
			Name: "crashes", Stream: StreamDLQCtl, Address: "dlqctl.crash.{group}.{partition}", Senders: allServices(),
			Other: "what an owner tries after a crash", Description: "which event a partition's owner was handling when its process died",
		},
		{
			Name: "timers", Stream: StreamTimers, Address: "timers.{partition}.{order}", Senders: []string{ServiceOrder},
			Types: []string{TypeOrderDeadline}, Description: "one order's deadline while it waits: a schedule of the broker",
		},
		{
			Name: "timeouts", Stream: StreamTimers, Address: "timeouts.{partition}.{order}",
			Types: []string{TypeOrderDeadline}, Description: "one order's deadline when it has come, published by the broker",
		},
	}
}
