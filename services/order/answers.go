package order

import (
	"encoding/json"
	"time"

	"github.com/tidemark/tidemark/pkg/events/store"
)

// OrderRequest documents the body of POST /v1/orders. What is read is read by decodeRequest, which knows every fault at once.
type OrderRequest struct {
	Customer string             `json:"customer,omitempty" maxLength:"128" doc:"Printable characters. Absent: a guest."`
	Email    string             `json:"email,omitempty" maxLength:"254" format:"email" doc:"Where the customer is told. Kept apart from the events."`
	Currency string             `json:"currency" pattern:"^[A-Z]{3}$" example:"GBP" doc:"ISO 4217 code."`
	PlacedAt time.Time          `json:"placed_at,omitzero" doc:"Event time, at most 5 minutes ahead. Absent: now."`
	Lines    []OrderRequestLine `json:"lines" minItems:"1" maxItems:"1000"`
}

// OrderRequestLine documents one line of an [OrderRequest].
type OrderRequestLine struct {
	SKU       string `json:"sku" minLength:"1" maxLength:"64" doc:"Printable characters, any of them."`
	Quantity  int64  `json:"quantity" minimum:"1" maximum:"1000000"`
	UnitPrice string `json:"unit_price" pattern:"^[0-9]+(\\.[0-9]{1,2})?$" example:"2.55" doc:"A decimal string, 0 or more with at most two decimals."`
}

// OrderBody is an order as the API shows it. Money is a decimal string.
type OrderBody struct {
	ID        string     `json:"id"`
	Customer  string     `json:"customer"`
	Currency  string     `json:"currency"`
	Status    string     `json:"status" enum:"placed,reserved,confirmed,rejected,cancelled"`
	Reason    string     `json:"reason,omitempty" doc:"Why it was rejected (out_of_stock, payment_declined, timeout, invalid) or cancelled."`
	PlacedAt  time.Time  `json:"placed_at"`
	UpdatedAt time.Time  `json:"updated_at"`
	Total     string     `json:"total" example:"12.30"`
	Version   uint64     `json:"version" doc:"How many events of ORDERS made it."`
	Lines     []LineBody `json:"lines,omitempty"`
	AsOf      *AsOfBody  `json:"as_of,omitempty" doc:"Where the order is shown as it was: the last event that is in it."`
}

// AsOfBody is the last event of an order's history up to a moment.
type AsOfBody struct {
	Stream   string    `json:"stream" enum:"ORDERS,STOCK"`
	Sequence uint64    `json:"sequence"`
	Type     string    `json:"type"`
	StoredAt time.Time `json:"stored_at"`
}

// LineBody is one line of an order.
type LineBody struct {
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	UnitPrice string `json:"unit_price" example:"2.55"`
}

// EventBody is one event of an order as it is stored: its own, or what the warehouse decided about it.
type EventBody struct {
	Stream   string    `json:"stream" enum:"ORDERS,STOCK"`
	Sequence uint64    `json:"sequence" doc:"In the stream."`
	Version  uint64    `json:"version" doc:"In ORDERS: the order's version after it. In STOCK: of the warehouse's dealings with the order."`
	Type     string    `json:"type"`
	ID       string    `json:"id"`
	Time     time.Time `json:"time" doc:"Event time."`
	StoredAt time.Time `json:"stored_at"`
	Subject  string    `json:"subject" doc:"In the stream."`
	Trace    string    `json:"traceparent,omitempty" doc:"W3C trace context of what stored the event; absent where it was not traced."`
	Data     any       `json:"data"`
}

func bodyOf(o Order) OrderBody {
	return OrderBody{
		ID: o.ID, Customer: o.Customer, Currency: o.Currency, Status: o.Status.String(), Reason: o.Reason, PlacedAt: o.PlacedAt.UTC(), UpdatedAt: o.UpdatedAt.UTC(),
		Total: o.Total.String(), Version: o.Version,
	}
}

func bodyWithLines(o Order) OrderBody {
	b := bodyOf(o)
	b.Lines = make([]LineBody, len(o.Lines))
	for i, l := range o.Lines {
		b.Lines[i] = LineBody{SKU: l.SKU, Quantity: l.Quantity, UnitPrice: l.UnitPrice.String()}
	}
	return b
}

func eventBody(r store.Recorded) EventBody {
	return EventBody{
		Stream: r.Stream, Sequence: r.Sequence, Version: r.Version, Type: r.Type, ID: r.ID, Time: r.Time.UTC(), StoredAt: r.StoredAt.UTC(), Subject: r.Subject, Trace: r.TraceParent,
		Data: json.RawMessage(r.Data),
	}
}
