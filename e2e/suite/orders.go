package suite

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Order is what a customer orders.
type newOrder struct {
	Customer string    `json:"customer,omitempty"`
	Email    string    `json:"email,omitempty"`
	Currency string    `json:"currency"`
	PlacedAt time.Time `json:"placed_at,omitzero"`
	Lines    []line    `json:"lines"`
}

type line struct {
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	UnitPrice string `json:"unit_price"`
}

// order is an order as the API shows it.
type order struct {
	ID, Status, Reason, Customer, Total, Currency string
	Version                                       int
}

func (o order) ended() bool {
	return slices.Contains([]string{"confirmed", "rejected", "cancelled"}, o.Status)
}

// happened is an event of an order as the API shows it.
type happened struct {
	Stream, Type string
	Version      int
}

// stock is what the warehouse holds of an article.
type stock struct {
	OnHand    int `json:"on_hand"`
	Reserved  int
	Available int
}

// payment is what the gateway holds of an order.
type payment struct {
	Status string
	Amount int64 `json:"amount_minor"`
}

// entry is a line of the gateway's ledger.
type entry struct {
	Kind, Key string
	Amount    int64 `json:"amount_minor"`
}

// mail is one that the mail sink took.
type mail struct {
	MessageID string `json:"message_id"`
	Subject   string
	Body      string
}

// receive brings units of an article into the warehouse, once however often it is called. A warehouse that is being taken over is asked again.
func (s *Shop) receive(sku string, units int) {
	s.Helper()
	var last answer
	s.until("units are received", func() bool {
		var err error
		last, err = s.ask(s.Context(), http.MethodPost, s.at.API+"/v1/stock/"+url.PathEscape(sku)+"/receipts", map[string]int{"quantity": units},
			map[string]string{"Idempotency-Key": "receipt of " + sku})
		if err == nil && last.status/100 == 4 {
			s.Fatalf("a receipt of %s: %s", sku, last)
		}
		return err == nil && last.status/100 == 2
	})
}

func (s *Shop) stock(sku string) (has stock) {
	s.Helper()
	s.read("/v1/stock/"+url.PathEscape(sku), &has)
	return has
}

// order of one article, by a customer of the case's own.
func (s *Shop) order(who, sku string, units int64) newOrder {
	return newOrder{Customer: s.name(who), Email: s.email(who), Currency: "EUR", Lines: []line{{sku, units, "2.50"}}}
}

// place places an order, which must be accepted, and waits some seconds for its end.
func (s *Shop) place(o newOrder) order {
	s.Helper()
	placed, _ := s.placeWith(o, map[string]string{"Prefer": "wait=20"})
	return placed
}

func (s *Shop) placeWith(o newOrder, header map[string]string) (placed order, a answer) {
	s.Helper()
	a = s.call(http.MethodPost, "/v1/orders", o, header)
	if a.status != http.StatusAccepted {
		s.Fatalf("POST /v1/orders: %s", a)
	}
	a.into(s, &placed)
	return placed, a
}

func (s *Shop) get(id string) (o order) {
	s.Helper()
	s.read("/v1/orders/"+id, &o)
	return o
}

// end waits until an order has ended.
func (s *Shop) end(id string) (o order) {
	s.Helper()
	s.until("order "+id+" ends", func() bool {
		a, err := s.ask(s.Context(), http.MethodGet, s.at.API+"/v1/orders/"+id, nil, nil)
		if err != nil || a.status != http.StatusOK {
			return false // it is being replaced
		}
		a.into(s, &o)
		return o.ended()
	})
	return o
}

// is fails where an order has not ended so.
func (s *Shop) is(o order, status, reason string) {
	s.Helper()
	if o.Status != status || o.Reason != reason {
		s.Fatalf("order %s is %s (%q), want %s (%q)", o.ID, o.Status, o.Reason, status, reason)
	}
}

// events are what happened to an order, oldest first, by the names of the catalogue.
func (s *Shop) events(id string) (types []string) {
	s.Helper()
	var page struct{ Items []happened }
	s.read("/v1/orders/"+id+"/events", &page)
	for _, e := range page.Items {
		types = append(types, strings.TrimSuffix(strings.TrimPrefix(e.Type, "shop."), ".v1"))
	}
	return types
}

// became waits until an order has exactly these events, in any order: STOCK and ORDERS are two logs.
func (s *Shop) became(id string, want ...string) {
	s.Helper()
	slices.Sort(want)
	var got []string
	defer func() {
		if s.Failed() {
			s.Logf("order %s has the events %v, want %v", id, got, want)
		}
	}()
	s.until("order "+id+" has its events", func() bool {
		got = s.events(id)
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// payment is what was paid for an order; found is false where the gateway has never heard of it.
func (s *Shop) payment(id string) (p payment, found bool) {
	s.Helper()
	a := s.callAt(s.at.Gateway, http.MethodGet, "/v1/payments/"+id, nil, nil)
	if a.status == http.StatusNotFound {
		return p, false
	}
	if a.status != http.StatusOK {
		s.Fatalf("payment of %s: %s", id, a)
	}
	a.into(s, &p)
	return p, true
}

// ledger is what the gateway did, by order.
func (s *Shop) ledger() map[string][]entry {
	s.Helper()
	a := s.callAt(s.at.Gateway, http.MethodGet, "/v1/ledger", nil, nil)
	if a.status != http.StatusOK {
		s.Fatalf("ledger: %d", a.status)
	}
	by := make(map[string][]entry)
	for text := range strings.Lines(string(a.body)) {
		var e entry
		answer{body: []byte(text)}.into(s, &e)
		by[e.Key] = append(by[e.Key], e)
	}
	return by
}

// mails are what an address was sent.
func (s *Shop) mails(to string) []mail {
	s.Helper()
	var page struct{ Items []mail }
	s.readAt(s.at.Mails(), "/v1/outbox"+query("to", to, "limit", "1000"), &page)
	return page.Items
}

// told waits until an address was sent so many mails, and fails if there are more.
func (s *Shop) told(to string, want int) []mail {
	s.Helper()
	var all []mail
	s.until(to+" is told", func() bool {
		all = s.mails(to)
		return len(all) >= want
	})
	ids := make(map[string]bool)
	for _, m := range all {
		ids[m.MessageID] = true
	}
	if len(all) != want || len(ids) != want {
		s.Errorf("%s was sent %d mails of %d names, want %d", to, len(all), len(ids), want)
	}
	return all
}

// faults switches what an outside system does wrong, until the case ends.
func (s *Shop) faults(base, path, on, off string) (repair func()) {
	s.Helper()
	put := func(body string) {
		s.Helper()
		if a := s.callAt(base, http.MethodPut, path, body, nil); a.status != http.StatusOK {
			s.Fatalf("PUT %s: %s", path, a)
		}
	}
	put(on)
	repair = func() { put(off) }
	s.Cleanup(func() {
		if a, err := s.ask(cleaningUp(s), http.MethodPut, base+path, off, nil); err != nil || a.status != http.StatusOK {
			s.Errorf("faults stay on: %s %v", a, err)
		}
	})
	return repair
}

// gatewayDoes switches faults of the payment gateway.
func (s *Shop) gatewayDoes(on string) (repair func()) {
	s.Helper()
	return s.faults(s.at.Gateway, "/v1/faults", on, `{"decline_rate":0,"error_rate":0,"error_after_capture_rate":0,"delay":"0s"}`)
}
