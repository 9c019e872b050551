package client

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"net/url"
	"strconv"
	"time"
)

// The states of an order.
const (
	StatusPlaced    = "placed"
	StatusReserved  = "reserved"
	StatusConfirmed = "confirmed"
	StatusRejected  = "rejected"
	StatusCancelled = "cancelled"
)

// Line is one line of an order. UnitPrice is a decimal such as "2.55".
type Line struct {
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	UnitPrice string `json:"unit_price"`
}

// NewOrder is an order as it is placed. A zero PlacedAt means now; an empty Customer is a guest.
type NewOrder struct {
	Customer string    `json:"customer,omitempty"`
	Email    string    `json:"email,omitempty"`
	Currency string    `json:"currency"`
	PlacedAt time.Time `json:"placed_at,omitzero"`
	Lines    []Line    `json:"lines"`
}

// Order is an order as the API shows it. Listings leave Lines out.
type Order struct {
	ID        string    `json:"id"`
	Customer  string    `json:"customer,omitempty"`
	Currency  string    `json:"currency"`
	Status    string    `json:"status"`
	Reason    string    `json:"reason,omitempty"`
	PlacedAt  time.Time `json:"placed_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Total     string    `json:"total"`
	Version   uint64    `json:"version"`
	Lines     []Line    `json:"lines,omitempty"`
	AsOf      *AsOf     `json:"as_of,omitempty"` // of an order as it was
}

// AsOf is the last event that is in an order as it was.
type AsOf struct {
	Stream   string    `json:"stream"`
	Sequence uint64    `json:"sequence"`
	Type     string    `json:"type"`
	StoredAt time.Time `json:"stored_at"`
}

// Ended reports whether nothing can happen to the order any more.
func (o Order) Ended() bool {
	return o.Status == StatusConfirmed || o.Status == StatusRejected || o.Status == StatusCancelled
}

// Placed is the answer to a placed order.
type Placed struct {
	Order
	Replayed  bool // the API had this key before
	Uncertain bool // an earlier attempt of this call got no answer, so it may be the one that is replayed
}

// PlaceOrder places an order. With a key it is repeated while the API is down, always under the same key.
func (c *Client) PlaceOrder(ctx context.Context, key string, o NewOrder) (Placed, error) {
	var p Placed
	a, err := c.post(ctx, "/v1/orders", key, o, &p.Order)
	p.Uncertain = a.uncertain
	if err != nil {
		return p, err
	}
	p.Replayed = replayed(a)
	return p, nil
}

// Order reads one order.
func (c *Client) Order(ctx context.Context, id string) (Order, error) {
	var o Order
	err := c.get(ctx, "/v1/orders/"+segment(id), nil, &o)
	return o, err
}

// OrderAsOf reads one order as it was: at a version, or at a time in RFC 3339.
func (c *Client) OrderAsOf(ctx context.Context, id, moment string) (Order, error) {
	var o Order
	err := c.get(ctx, "/v1/orders/"+segment(id), url.Values{"as_of": {moment}}, &o)
	return o, err
}

// CancelOrder cancels an order that has not ended; reason may be empty.
func (c *Client) CancelOrder(ctx context.Context, id, reason string) (Order, error) {
	var o Order
	body := struct {
		Reason string `json:"reason,omitempty"`
	}{reason}
	_, err := c.post(ctx, "/v1/orders/"+segment(id)+"/cancel", "", body, &o)
	return o, err
}

// OrderEvent is one event of an order as it is stored, in ORDERS or in STOCK.
type OrderEvent struct {
	Stream   string          `json:"stream"`
	Sequence uint64          `json:"sequence"`
	Version  uint64          `json:"version"`
	Type     string          `json:"type"`
	ID       string          `json:"id"`
	Time     time.Time       `json:"time"`
	StoredAt time.Time       `json:"stored_at"`
	Subject  string          `json:"subject"`
	Trace    string          `json:"traceparent,omitempty"`
	Data     json.RawMessage `json:"data"`
}

// OrderEvents reads what happened to one order, oldest first.
func (c *Client) OrderEvents(ctx context.Context, id string) ([]OrderEvent, error) {
	var page struct {
		Items []OrderEvent `json:"items"`
	}
	err := c.get(ctx, "/v1/orders/"+segment(id)+"/events", nil, &page)
	return page.Items, err
}

// OrderFilter chooses orders; empty fields choose all.
type OrderFilter struct {
	Customer, Status string
	PageSize         int // default 1,000
}

// Orders lists orders, oldest first, page by page. After an error it ends.
func (c *Client) Orders(ctx context.Context, f OrderFilter) iter.Seq2[Order, error] {
	query := url.Values{"limit": {strconv.Itoa(pageSize(f.PageSize))}}
	if f.Customer != "" {
		query.Set("customer", f.Customer)
	}
	if f.Status != "" {
		query.Set("status", f.Status)
	}
	return pages[Order](ctx, c, "/v1/orders", query)
}

func pageSize(n int) int {
	if n <= 0 {
		return 1000
	}
	return n
}

// pages walks a listing along its cursors.
func pages[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		query := maps.Clone(query)
		for {
			var page struct {
				Items      []T    `json:"items"`
				NextCursor string `json:"next_cursor"`
			}
			if err := c.get(ctx, path, query, &page); err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			query.Set("cursor", page.NextCursor)
		}
	}
}
