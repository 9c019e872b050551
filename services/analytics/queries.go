package analytics

import (
	"time"
	_ "time/tzdata" // so that every image has Europe/London

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/window"
)

// Query declares what is counted. Adding one to [DefaultQueries] and a restart is all: it starts from history, the first message that TIMELINE has.
type Query struct {
	// Name stands in subjects and in stored results: whoever changes what a query means gives it a new name.
	Name string
	// Unit of the value, for people.
	Unit string
	// Types are the event types that it takes; event time is ce-time. Its partitions are those of the streams that the types come from.
	Types []string
	// StoreTime lets the query go by when the log stored an event, instead of ce-time. Nothing is late then, and what comes out says how the log was fed, not
	// what happened.
	StoreTime bool
	// Windows and Aggregate are as in [window.Config].
	Windows   window.Windows
	Aggregate window.Aggregate
	// Read says what the query groups an event by, and what it adds up. It is a function of the event alone. The event has passed its schema; an error
	// makes it a dead letter.
	Read func(in *Input) (Reading, error)
	// Keep, where it is set, chooses the results that come out; others are not published at all. It is for queries where silence is the normal case.
	Keep func(r *window.Result) bool
	// Alert, where it is set, raises an alert for each window that comes out.
	Alert *Alert
}

// Reading is what a query sees in an event.
type Reading struct {
	Key   string        // what it is grouped by; keys that are very long are shortened
	Item  string        // as in [window.Event]
	Value int64         //
	Parts []window.Part // in place of Item and Value
}

// Alert is raised once for a window, on the subject alerts.<Name>.<key>.<start>.
type Alert struct {
	Name    string
	Type    string // of the event
	Payload func(r *window.Result) any
}

// VelocityLimit is how many orders of one customer within ten seconds are remarkable.
const VelocityLimit = 5

// DefaultQueries are what Tidemark counts.
func DefaultQueries() []Query {
	orders, clicks := []string{events.TypeOrderPlaced}, []string{events.TypePageClicked}
	minutes := window.Tumbling(time.Minute, 0)
	return []Query{
		{
			Name: "orders-per-minute", Unit: "orders", Types: orders, Windows: minutes, Aggregate: window.Count(),
			Read: func(*Input) (Reading, error) { return Reading{Value: 1}, nil },
		},
		{
			// The key is the currency: amounts of different currencies can't be added.
			Name: "revenue-per-minute", Unit: "minor units of the currency in key", Types: orders, Windows: minutes, Aggregate: window.Sum(),
			Read: revenue,
		},
		{
			Name: "units-per-sku", Unit: "units, the ten best-selling articles in top", Types: orders, Windows: window.Hopping(5*time.Minute, time.Minute, 0), Aggregate: window.Top(10),
			Read: units,
		},
		{
			Name: "customer-sessions", Unit: "orders and clicks", Types: []string{events.TypeOrderPlaced, events.TypePageClicked}, Windows: window.Session(30 * time.Minute), Aggregate: window.Count(),
			Read: visitor,
		},
		{
			Name: "clicks-per-page", Unit: "clicks", Types: clicks, Windows: window.Tumbling(time.Hour, 0), Aggregate: window.Count(),
			Read: page,
		},
		{
			Name: "order-velocity", Unit: "orders", Types: orders, Windows: window.Hopping(10*time.Second, time.Second, 0), Aggregate: window.Count(),
			Read:  visitor,
			Keep:  func(r *window.Result) bool { return r.Count >= VelocityLimit },
			Alert: &Alert{Name: "velocity", Type: events.TypeAlertVelocity, Payload: velocityAlert},
		},
		{
			Name: "revenue-per-day", Unit: "minor units of the currency in key", Types: orders, Windows: window.Calendar(window.Day, "Europe/London"), Aggregate: window.Sum(),
			Read: revenue,
		},
	}
}

// orderFacts is what the queries want of an order. All of them read this one type, so an order is decoded once.
type orderFacts struct {
	Customer string       `json:"customer_id"`
	Currency string       `json:"currency"`
	Total    events.Minor `json:"total_minor"`
	Lines    []struct {
		SKU      string `json:"sku"`
		Quantity int64  `json:"quantity"`
	} `json:"lines"`
}

func revenue(in *Input) (Reading, error) {
	order, err := Payload[orderFacts](in)
	return Reading{Key: order.Currency, Value: int64(order.Total)}, err
}

func units(in *Input) (Reading, error) {
	order, err := Payload[orderFacts](in)
	parts := make([]window.Part, len(order.Lines))
	for i, l := range order.Lines {
		parts[i] = window.Part{Item: l.SKU, Value: l.Quantity}
	}
	return Reading{Parts: parts}, err
}

// visitor is the customer of an order, or the user of a click: they are the same names.
func visitor(in *Input) (Reading, error) {
	if in.Type == events.TypePageClicked {
		click, err := Payload[events.PageClicked](in)
		return Reading{Key: click.User, Value: 1}, err
	}
	order, err := Payload[orderFacts](in)
	return Reading{Key: order.Customer, Value: 1}, err
}

func page(in *Input) (Reading, error) {
	click, err := Payload[events.PageClicked](in)
	return Reading{Key: click.Page, Value: 1}, err
}

func velocityAlert(r *window.Result) any {
	return events.VelocityAlert{CustomerID: r.Key, Start: time.UnixMilli(r.Start).UTC(), End: time.UnixMilli(r.End).UTC(), Orders: r.Count}
}
