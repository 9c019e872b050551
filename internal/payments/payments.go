// Package payments compares the payment gateway's ledger with the orders, and finds what was captured for nothing: payments of orders that nobody knows, or that ended without being
// confirmed. In a system that was never restored there are none for longer than an order's deadline. A restore takes orders back, and the gateway knows nothing of it.
package payments

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
)

// Unknown is the status of an order that the log does not know.
const Unknown = "unknown"

// Orphan is a payment that is captured and not voided, and that no confirmed or open order stands for.
type Orphan struct {
	Key       string       `json:"key"` // the id of the order
	PaymentID string       `json:"payment_id"`
	Amount    events.Minor `json:"amount_minor"`
	Currency  string       `json:"currency"`
	At        time.Time    `json:"captured_at"`
	Order     string       `json:"order"` // its status, or [Unknown]
	Voided    bool         `json:"voided"`
}

// Orphans finds them, oldest first. The ledger is read before the orders: an order is placed before its payment is captured, so one that is missing was not there.
func Orphans(ctx context.Context, api, gateway *client.Client) ([]Orphan, error) {
	captured := make(map[string]client.LedgerEntry)
	for e, err := range gateway.Ledger(ctx) {
		if err != nil {
			return nil, err
		}
		switch e.Kind {
		case client.LedgerCaptured:
			captured[e.Key] = e
		case client.LedgerVoided:
			delete(captured, e.Key)
		}
	}
	for o, err := range api.Orders(ctx, client.OrderFilter{}) {
		if err != nil {
			return nil, fmt.Errorf("read the orders: %w", err)
		}
		if o.Status == client.StatusConfirmed {
			delete(captured, o.ID)
		}
	}
	var out []Orphan
	for _, e := range captured {
		status, err := statusOf(ctx, api, e.Key)
		if err != nil {
			return nil, err
		}
		switch status {
		case client.StatusRejected, client.StatusCancelled, Unknown:
			out = append(out, Orphan{Key: e.Key, PaymentID: e.PaymentID, Amount: e.Amount, Currency: e.Currency, At: e.At, Order: status})
		}
	}
	slices.SortFunc(out, func(a, b Orphan) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key)) })
	return out, nil
}

// statusOf asks for one order by itself: a listing may be a moment behind.
func statusOf(ctx context.Context, api *client.Client, id string) (string, error) {
	o, err := api.Order(ctx, id)
	if client.StatusOf(err) == http.StatusNotFound {
		return Unknown, nil
	}
	if err != nil {
		return "", fmt.Errorf("read order %s: %w", id, err)
	}
	return o.Status, nil
}
