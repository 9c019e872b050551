package analytics

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/window"
)

// query declares what is counted. Its name stands in subjects and in stored results: whoever changes what a query means gives it a new name.
type query struct {
	name   string
	unit   string   // of the value, for people
	types  []string // the event types that it takes; event time is ce-time
	window window.Config

	// read says what the query groups an event by, and what it adds up. The event has passed its schema.
	read func(ev *events.Event) (key string, value int64, err error)
}

// queries are the ones that there are. All are per minute, in UTC.
func queries(bound time.Duration) []query {
	perMinute := func(aggregate window.Aggregate) window.Config {
		return window.Config{Windows: window.Tumbling(time.Minute, 0), Aggregate: aggregate, Bound: bound}
	}
	return []query{
		{
			name: "orders-per-minute", unit: "orders", types: []string{events.TypeOrderPlaced}, window: perMinute(window.Count()),
			read: func(*events.Event) (string, int64, error) { return "", 1, nil },
		},
		{
			// The key is the currency: amounts of different currencies can't be added.
			name: "revenue-per-minute", unit: "minor units of the currency in key", types: []string{events.TypeOrderPlaced}, window: perMinute(window.Sum()),
			read: revenue,
		},
		{
			name: "clicks-per-minute", unit: "clicks", types: []string{events.TypePageClicked}, window: perMinute(window.Count()),
			read: platform,
		},
	}
}

func revenue(ev *events.Event) (string, int64, error) {
	var order struct { // without the lines: they are most of the bytes
		Currency string       `json:"currency"`
		Total    events.Minor `json:"total_minor"`
	}
	if err := json.Unmarshal(ev.Data, &order); err != nil {
		return "", 0, fmt.Errorf("%w: payload of %s: %w", events.ErrUndecodable, ev.Type, err)
	}
	return order.Currency, int64(order.Total), nil
}

func platform(ev *events.Event) (string, int64, error) {
	click, err := events.Payload[events.PageClicked](ev)
	return click.Platform, 1, err
}

func (q *query) takes(eventType string) bool { return slices.Contains(q.types, eventType) }

// check says whether the queries can read an event. What none of them takes is passed over, whatever it is. The rules beside the schema are
// those that the stored late event needs: an id and a time that it can hold.
func check(qs []query, registry *events.Registry, ev *events.Event) error {
	checked := false
	for i := range qs {
		q := &qs[i]
		if !q.takes(ev.Type) {
			continue
		}
		if !checked {
			checked = true
			if err := checkEnvelope(ev); err != nil {
				return err
			}
			if err := registry.Validate(ev); err != nil {
				return err
			}
		}
		if _, _, err := q.read(ev); err != nil {
			return err
		}
	}
	return nil
}

// Limits on attributes that reach results and late events.
const (
	maxID   = 128 // code points
	minYear = 1
	maxYear = 9998 // a window's end must be a year of four digits too
)

func checkEnvelope(ev *events.Event) error {
	if n := len([]rune(ev.ID)); n > maxID {
		return fmt.Errorf("%w: id: must have at most %d characters, has %d", events.ErrInvalidEvent, maxID, n)
	}
	if ev.Time.IsZero() {
		return fmt.Errorf("%w: time: required, is missing", events.ErrInvalidEvent)
	}
	if y := ev.Time.Year(); y < minYear || y > maxYear {
		return fmt.Errorf("%w: time: must be in the years %d to %d, is %s", events.ErrInvalidEvent, minYear, maxYear, ev.Time.Format(time.RFC3339))
	}
	return nil
}
