package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/pkg/events"
)

// System says where the parts of a running system are. It is answered on loopback only.
type System struct {
	NATSURL   string `json:"nats_url"`
	CredsFile string `json:"operator_creds_file"` // the seed of the operator's NATS user; empty where the server has no users
	CA        string `json:"nats_ca"`
	Cert      string `json:"nats_cert"`
	Key       string `json:"nats_key"`
	Gateway   string `json:"gateway_url"`
	SMTP      string `json:"smtp_addr"`
}

// Access is how an operator reaches the broker.
func (s System) Access() natsconn.Access {
	return natsconn.Access{NKey: s.CredsFile, CA: s.CA, Cert: s.Cert, Key: s.Key}
}

// System reads where the parts of the system are.
func (c *Client) System(ctx context.Context) (System, error) {
	var s System
	err := c.get(ctx, "/v1/system", nil, &s)
	return s, err
}

// The projections of which the API shows the digest.
const (
	ProjectionOrders  = "orders"
	ProjectionStock   = "stock"
	ProjectionWindows = "windows"
)

// Projection is the digest of a read model and how far it has read, by stream.
type Projection struct {
	Name     string            `json:"name"`
	Position map[string]uint64 `json:"position"`
	Count    int               `json:"count"`
	Digest   string            `json:"digest"`  // of orders and stock
	Queries  []QueryCounts     `json:"queries"` // of windows
}

// QueryCounts says what became of the events that a query read: Read is the sum of counted, late, duplicates and unreadable.
type QueryCounts struct {
	Query      string     `json:"query"`
	Read       int64      `json:"read"`
	Counted    int64      `json:"counted"`
	Late       int64      `json:"late"`
	TooLate    int64      `json:"too_late"`       // of the late: those that missed all their windows
	Partially  int64      `json:"partially_late"` // and those that missed some
	Duplicates int64      `json:"duplicates"`
	Unreadable int64      `json:"unreadable"`
	Watermark  *time.Time `json:"watermark"`
}

// Projection reads a projection's digest.
func (c *Client) Projection(ctx context.Context, name string) (Projection, error) {
	var p Projection
	err := c.get(ctx, "/v1/projections/"+segment(name), nil, &p)
	return p, err
}

// The kinds of entries in the payment gateway's ledger.
const (
	LedgerCaptured = "captured"
	LedgerDeclined = "declined"
	LedgerVoided   = "voided"
)

// LedgerEntry is one line of the payment gateway's ledger. Key is the idempotency key of the payment: the order's id.
type LedgerEntry struct {
	At        time.Time    `json:"at"`
	Kind      string       `json:"kind"`
	Key       string       `json:"key"`
	PaymentID string       `json:"payment_id"`
	Amount    events.Minor `json:"amount_minor"`
	Currency  string       `json:"currency"`
}

// Ledger reads the ledger of the payment gateway, which this client's address must be, oldest first and line by line. After an error it
// ends. It is one attempt, bounded by the context alone: a ledger may be long.
func (c *Client) Ledger(ctx context.Context) iter.Seq2[LedgerEntry, error] {
	return func(yield func(LedgerEntry, error) bool) {
		if err := jsonLines(ctx, c, "/v1/ledger", yield); err != nil && !errors.Is(err, errStopped) {
			yield(LedgerEntry{}, fmt.Errorf("read ledger: %w", err))
		}
	}
}

// VoidPayment undoes the payment of a key at the gateway, which this client's address must be, and spends the key. Voiding it again changes nothing.
func (c *Client) VoidPayment(ctx context.Context, key string) error {
	_, err := c.post(ctx, "/v1/payments/"+segment(key)+"/void", key, struct{}{}, nil)
	if err != nil {
		return fmt.Errorf("void payment %s: %w", key, err)
	}
	return nil
}

// MailEntry is one line of the mail sink's books: a mail that was handed in.
type MailEntry struct {
	Kind      string `json:"kind"` // accepted, repeated or refused
	MessageID string `json:"message_id"`
}

// MailAccepted is the kind of a mail that was taken for the first time.
const MailAccepted = "accepted"

// Mails reads the books of the mail sink, as Ledger does those of the gateway.
func (c *Client) Mails(ctx context.Context) iter.Seq2[MailEntry, error] {
	return func(yield func(MailEntry, error) bool) {
		if err := jsonLines(ctx, c, "/v1/outbox/ledger", yield); err != nil && !errors.Is(err, errStopped) {
			yield(MailEntry{}, fmt.Errorf("read the mail sink's books: %w", err))
		}
	}
}

var errStopped = errors.New("stopped")

func jsonLines[T any](ctx context.Context, c *Client, path string, yield func(T, error) bool) error {
	res, err := c.open(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read only: nothing can be lost
	if res.StatusCode != http.StatusOK {
		return problem(res, nil)
	}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var e T
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		if !yield(e, nil) {
			return errStopped
		}
	}
	return lines.Err()
}
