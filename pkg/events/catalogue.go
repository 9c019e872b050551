package events

import (
	"encoding/json"
	"fmt"
	"time"
)

// The event types. The last part is the major version: a new meaning gets a new type, a new optional field does not.
const (
	TypeOrderPlaced    = "shop.order.placed.v1"
	TypeOrderConfirmed = "shop.order.confirmed.v1"
	TypeOrderRejected  = "shop.order.rejected.v1"
	TypeOrderCancelled = "shop.order.cancelled.v1"

	TypeStockReceived  = "shop.stock.received.v1"
	TypeStockReserved  = "shop.stock.reserved.v1"
	TypeStockRejected  = "shop.stock.rejected.v1"
	TypeStockCommitted = "shop.stock.committed.v1"
	TypeStockReleased  = "shop.stock.released.v1"

	TypeNoticeSent    = "shop.notice.sent.v1"
	TypeNoticeSkipped = "shop.notice.skipped.v1"

	TypePageClicked   = "shop.page.clicked.v1"
	TypeOrderDeadline = "shop.order.deadline.v1"
	TypeWindowResult  = "shop.window.result.v1"
	TypeEventLate     = "shop.event.late.v1"
	TypeAlertVelocity = "shop.alert.velocity.v1"
)

// catalogueUpcasts are the steps from every old version of a type of the catalogue to its newest one. There is one version of each type so far; a test holds
// that a second one comes with its step.
func catalogueUpcasts() []Upcast { return nil }

// Line is one line of an order, or of a reservation, where the price is absent.
type Line struct {
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	UnitPrice Minor  `json:"unit_price_minor,omitempty"`
}

// OrderPlaced is the first event of an order. RequestDigest is the SHA-256 of the request as it was sent: a repeated request
// with the same idempotency key is compared by it.
type OrderPlaced struct {
	OrderID       string    `json:"order_id"`
	CustomerID    string    `json:"customer_id"`
	Currency      string    `json:"currency"`
	PlacedAt      time.Time `json:"placed_at"`
	Lines         []Line    `json:"lines"`
	Total         Minor     `json:"total_minor"`
	RequestDigest string    `json:"request_digest"`
}

// OrderConfirmed ends an order well: the stock is reserved and the payment captured. It is the pivot of the saga.
type OrderConfirmed struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Currency   string `json:"currency"`
	Total      Minor  `json:"total_minor"`
	PaymentID  string `json:"payment_id"`
}

// RejectReason says why an order was refused.
type RejectReason string

// The reasons for which an order is rejected.
const (
	ReasonOutOfStock      RejectReason = "out_of_stock"
	ReasonPaymentDeclined RejectReason = "payment_declined"
	ReasonTimeout         RejectReason = "timeout"
	ReasonInvalid         RejectReason = "invalid"
)

// OrderRejected ends an order that could not be fulfilled.
type OrderRejected struct {
	OrderID    string       `json:"order_id"`
	CustomerID string       `json:"customer_id"`
	Reason     RejectReason `json:"reason"`
	Detail     string       `json:"detail,omitempty"`
}

// OrderCancelled ends an order at the customer's wish.
type OrderCancelled struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Reason     string `json:"reason,omitempty"`
}

// StockReceived adds units to the warehouse.
type StockReceived struct {
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	ReceiptID string `json:"receipt_id"`
}

// StockDecision is what the warehouse decided about an order: reserved, rejected, committed or released. OrderSeq is the sequence in
// ORDERS of the event that it answers. A release without lines is a tombstone: the order had nothing, and must never reserve.
type StockDecision struct {
	OrderID   string     `json:"order_id"`
	OrderSeq  uint64     `json:"order_seq"`
	Lines     []Line     `json:"lines,omitempty"`
	Shortages []Shortage `json:"shortages,omitempty"`
}

// Shortage is one SKU of which an order wanted more than there was.
type Shortage struct {
	SKU       string `json:"sku"`
	Requested int64  `json:"requested"`
	Available int64  `json:"available"`
}

// Notice records that a customer was told, or why not.
type Notice struct {
	OrderID      string `json:"order_id"`
	OrderVersion uint64 `json:"order_version"`
	Channel      string `json:"channel"`
	EventType    string `json:"event_type"`
	MessageID    string `json:"message_id,omitempty"`
	Reason       string `json:"reason,omitempty"`
}

// PageClicked is one click of the clickstream.
type PageClicked struct {
	User     string `json:"user"`
	Page     string `json:"page"`
	Platform string `json:"platform,omitempty"`
}

// OrderDeadline comes due when an order has had its time.
type OrderDeadline struct {
	OrderID string    `json:"order_id"`
	DueAt   time.Time `json:"due_at"`
}

// WindowResult is the value of one window of one query. Start and End are event time, End exclusive.
type WindowResult struct {
	Query    string    `json:"query"`
	Key      string    `json:"key"`
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Revision int       `json:"revision"`
	Timing   string    `json:"timing"`
	Value    int64     `json:"value"`
	Count    int64     `json:"count"`
	Top      []Rank    `json:"top,omitempty"` // of queries that rank: the items with the largest values

	Sequence  uint64     `json:"sequence,omitempty"`  // of TIMELINE: the message that made the result come out
	Watermark *time.Time `json:"watermark,omitempty"` // the query's, then
}

// Rank is one item of a ranking.
type Rank struct {
	Item  string `json:"item"`
	Value int64  `json:"value"`
}

// VelocityAlert says that one customer placed remarkably many orders within a short time, Start to End, End exclusive.
type VelocityAlert struct {
	CustomerID string    `json:"customer_id"`
	Start      time.Time `json:"start"`
	End        time.Time `json:"end"`
	Orders     int64     `json:"orders"`
}

// LateEvent is an event that came after its window had closed.
type LateEvent struct {
	Query     string    `json:"query"`
	Reason    string    `json:"reason"`
	EventID   string    `json:"event_id"`
	EventType string    `json:"event_type"`
	EventTime time.Time `json:"event_time"`
	Key       *string   `json:"key,omitempty"` // what the query groups it by; absent in events of 0.1.0
	Watermark time.Time `json:"watermark"`
	LateByMS  int64     `json:"late_by_ms"`
	Stream    string    `json:"stream"`
	Sequence  uint64    `json:"sequence"`
	Missed    []Span    `json:"missed,omitempty"` // the windows that do not count it
}

// Span is a window of event time, End exclusive.
type Span struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// New makes an event of the catalogue with its payload: a new id, the time, the payload's JSON, and correlation, subject and partition key
// set to key, as the shop's own events have it. The caller overrides what differs.
func New(source, eventType, key string, at time.Time, payload any) (Event, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return Event{}, fmt.Errorf("make %s: payload: %w", eventType, err)
	}
	return Event{
		ID: NewID(), Source: source, Type: eventType, Subject: key, Time: at.UTC(),
		DataContentType: contentTypeJSON, DataSchema: SchemaURI(eventType),
		CorrelationID: key, PartitionKey: key, Data: data,
	}, nil
}

// Payload reads an event's payload into T. Unknown fields are ignored: producers may be newer than we are.
func Payload[T any](e *Event) (T, error) {
	var v T
	if err := json.Unmarshal(e.Data, &v); err != nil {
		return v, fmt.Errorf("%w: payload of %s: %w", ErrUndecodable, e.Type, err)
	}
	return v, nil
}

// Contact is how a customer can be reached: the value in the bucket CONTACTS under the customer's id as a token. It is no event: events carry the
// customer's id only, so that an address can be deleted.
type Contact struct {
	Email string `json:"email,omitempty"`
}
