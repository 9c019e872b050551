package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// Config configures a gateway.
type Config struct {
	Dir    string       // where the ledger lies; required
	Logger *slog.Logger // default: none
	Faults Faults       // faults from the start
}

// Validate reports every error of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("gateway: Dir: required, is empty"))
	}
	return errors.Join(append(errs, c.Faults.Validate())...)
}

// Payment is what the gateway knows of a key.
type Payment struct {
	PaymentID   string    `json:"payment_id"`
	Key         string    `json:"key"`
	OrderID     string    `json:"order_id,omitempty"`
	Status      Kind      `json:"status"`
	AmountMinor int64     `json:"amount_minor"`
	Currency    string    `json:"currency"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// Charge is a payment that is asked for.
type Charge struct {
	OrderID     string `json:"order_id"`
	AmountMinor int64  `json:"amount_minor"`
	Currency    string `json:"currency"`
}

// ErrOtherPayment is returned where a key comes again with another payment.
var ErrOtherPayment = errors.New("the key was used for another payment")

// Gateway is a payment gateway. It is safe for use by many goroutines.
type Gateway struct {
	log *slog.Logger

	mu       sync.Mutex // held while a line is written: what is answered is in the ledger
	ledger   *ledger
	payments map[string]*Payment
	keys     []string // in the order of their first use

	faultMu sync.RWMutex
	faults  Faults
}

// New opens the ledger and rebuilds what it says.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{log: cfg.Logger, payments: make(map[string]*Payment), faults: cfg.Faults}
	ledger, err := openLedger(cfg.Dir, cfg.Logger, g.apply)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.ledger = ledger
	return g, nil
}

// Close closes the ledger. Answers after that are errors.
func (g *Gateway) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ledger.close()
}

// Handler serves the gateway's API.
func (g *Gateway) Handler() http.Handler { return g.routes() }

// Charge captures the payment, or declines it, once a key.
func (g *Gateway) Charge(key string, c Charge) (Payment, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, ok := g.payments[key]; ok {
		if p.Status != Voided && (p.AmountMinor != c.AmountMinor || p.Currency != c.Currency || p.OrderID != c.OrderID) {
			return Payment{}, ErrOtherPayment
		}
		return *p, nil
	}
	kind := Captured
	if hits(g.Faults().DeclineRate) {
		kind = Declined
	}
	return g.record(Entry{Kind: kind, Key: key, OrderID: c.OrderID, AmountMinor: c.AmountMinor, Currency: c.Currency})
}

// Void undoes the payment of a key and spends the key.
func (g *Gateway) Void(key string) (Payment, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := Entry{Kind: Voided, Key: key}
	if p, ok := g.payments[key]; ok {
		if p.Status == Voided {
			return *p, nil
		}
		e.OrderID, e.AmountMinor, e.Currency = p.OrderID, p.AmountMinor, p.Currency
	}
	return g.record(e)
}

// record writes the line first and believes it then.
func (g *Gateway) record(e Entry) (Payment, error) {
	e.At = time.Now().UTC()
	e.PaymentID = "pay_" + events.DeriveID("payment", e.Key)
	if err := g.ledger.append(e); err != nil {
		g.log.Error("payment is not recorded", "key", e.Key, "error", err)
		return Payment{}, err
	}
	g.apply(e)
	return *g.payments[e.Key], nil
}

// apply folds one line. It is the only place that changes a payment.
func (g *Gateway) apply(e Entry) {
	p, ok := g.payments[e.Key]
	if !ok {
		p = &Payment{Key: e.Key}
		g.payments[e.Key] = p
		g.keys = append(g.keys, e.Key)
	}
	p.PaymentID, p.OrderID, p.Status = e.PaymentID, e.OrderID, e.Kind
	p.AmountMinor, p.Currency, p.UpdatedAt = e.AmountMinor, e.Currency, e.At
}

// Payment is what is known of a key.
func (g *Gateway) Payment(key string) (Payment, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.payments[key]
	if !ok {
		return Payment{}, false
	}
	return *p, true
}

// list is a page of the payments, in the order of their keys' first use, and how many there are.
func (g *Gateway) list(offset, limit int) ([]Payment, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	items := make([]Payment, 0, min(limit, 1000))
	for _, key := range g.keys[min(offset, len(g.keys)):] {
		if len(items) == limit {
			break
		}
		items = append(items, *g.payments[key])
	}
	return items, len(g.keys)
}

// hits is true with the probability rate.
func hits(rate float64) bool { return rate > 0 && rand.Float64() < rate } //nolint:gosec // a fault need not be unpredictable
