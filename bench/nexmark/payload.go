package nexmark

import (
	"embed"
	"fmt"
	"io/fs"
	"strconv"
)

//go:embed schemas
var schemas embed.FS

// Schemas are those of the payloads, one a type, as events.NewRegistry takes them.
func Schemas() fs.FS {
	files, err := fs.Sub(schemas, "schemas")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	return files
}

// Types are the event types by kind.
var types = [...]string{Person: "nexmark.person.v1", Auction: "nexmark.auction.v1", Bid: "nexmark.bid.v1"}

// Type is the event type.
func (k Kind) Type() string { return types[k] }

// KindOf is the kind of an event type.
func KindOf(eventType string) (Kind, error) {
	for k, t := range types {
		if t == eventType {
			return Kind(k), nil //nolint:gosec // a place in types
		}
	}
	return 0, fmt.Errorf("nexmark: %q is no type of an event", eventType)
}

// sizes are the mean lengths of payloads in bytes.
var sizes = [...]int{Person: 200, Auction: 500, Bid: 100}

// AppendPayload appends the payload as JSON. Text without meaning brings it to the size that Nexmark says, give or take a fifth.
func (c Config) AppendPayload(b []byte, e *Event) []byte {
	d := c.dice(e.Number, forText)
	from := len(b)
	field := func(name string, n int64) {
		b = append(b, ',', '"')
		b = append(b, name...)
		b = append(b, '"', ':')
		b = strconv.AppendInt(b, n, 10)
	}
	b = append(b, `{"person":`...)
	b = strconv.AppendInt(b, e.Person, 10)
	if e.Kind != Person {
		field("auction", e.Auction)
		field("price", e.Price)
	}
	if e.Kind == Auction {
		field("reserve", e.Reserve)
		field("category", e.Category)
		field("expires", e.Expires)
	}
	b = append(b, `,"text":"`...)
	size := int64(sizes[e.Kind])
	for end := from + int(size-size/5+d.below(2*size/5+1)) - len(`"}`); len(b) < end; {
		b = append(b, 'a'+byte(d.below(26))) //nolint:gosec // less than 26
	}
	return append(b, '"', '}')
}

// Payload is what the queries want of a payload.
type Payload struct {
	Person  int64 `json:"person"`
	Auction int64 `json:"auction"`
	Price   int64 `json:"price"`
}

// Event is the event of a type with the payload, as far as the queries want it.
func (p *Payload) Event(eventType string) (Event, error) {
	kind, err := KindOf(eventType)
	return Event{Kind: kind, Person: p.Person, Auction: p.Auction, Price: p.Price}, err
}
