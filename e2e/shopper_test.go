package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// shopper places orders all the time, as a shop does that must not lose one: an order that was not answered, or not taken, is sent again under its key until it is.
type shopper struct {
	t      *testing.T
	name   string
	url    string
	client *http.Client
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	accepted []acceptance
	sent     int
	statuses map[int]int // answers that were no acceptance
}

// acceptance is an order that the system has promised to keep.
type acceptance struct {
	id    string
	began time.Time // when it was sent first
	at    time.Time
}

const shopSKU = "85123A"

// startShopper places orders with so many workers, each with a pause between two of its own.
func startShopper(t *testing.T, name, url string, workers int, pause time.Duration) *shopper {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &shopper{t: t, name: name, url: url, client: &http.Client{Timeout: 10 * time.Second}, stop: stop, statuses: make(map[int]int)}
	for w := range workers {
		s.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				s.place(ctx, fmt.Sprintf("%s-%d-%d", name, w, n))
				pauseFor(ctx, pause)
			}
		})
	}
	t.Cleanup(func() { s.end() })
	return s
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// place sends one order until it is taken. The order that is on its way at the end may stay unanswered; it is no promise then.
func (s *shopper) place(ctx context.Context, key string) {
	body := fmt.Sprintf(`{"customer": %q, "email": "%s@example.com", "currency": "GBP", "lines": [{"sku": %q, "quantity": 1, "unit_price": "2.55"}]}`, key, key, shopSKU)
	began := time.Now()
	for ctx.Err() == nil {
		if id, status := s.once(ctx, key, body); id != "" {
			s.mu.Lock()
			s.accepted = append(s.accepted, acceptance{id: id, began: began, at: time.Now()})
			s.mu.Unlock()
			return
		} else if status >= 400 && status < 500 && status != http.StatusTooManyRequests {
			s.t.Errorf("order %s is refused with %d", key, status)
			return
		}
		pauseFor(ctx, 50*time.Millisecond)
	}
}

func (s *shopper) once(ctx context.Context, key, body string) (id string, status int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/orders", strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return "", 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	s.mu.Lock()
	s.sent++
	s.mu.Unlock()
	res, err := s.client.Do(req)
	if err == nil {
		defer func() { _ = res.Body.Close() }()
		status = res.StatusCode
		if status == http.StatusAccepted || status == http.StatusOK {
			var order struct {
				ID string `json:"id"`
			}
			if err := json.NewDecoder(res.Body).Decode(&order); err == nil {
				return order.ID, status
			}
		}
	}
	s.mu.Lock()
	s.statuses[status]++
	s.mu.Unlock()
	return "", status
}

// end stops placing orders.
func (s *shopper) end() {
	s.stop()
	s.wg.Wait()
}

func (s *shopper) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.accepted)
}

// more waits until so many more orders are taken.
func (s *shopper) more(n int) {
	s.t.Helper()
	want := s.count() + n
	eventstest.Eventually(s.t, 90*time.Second, fmt.Sprintf("%d more orders of %s are taken", n, s.name), func() bool { return s.count() >= want })
}

// promises are the orders that were accepted.
func (s *shopper) promises() []acceptance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]acceptance(nil), s.accepted...)
}

// gap is the longest time within a span in which no order was accepted.
func (s *shopper) gap(from, to time.Time) time.Duration {
	var at []time.Time
	for _, a := range s.promises() {
		at = append(at, a.at)
	}
	return longest(at, from, to)
}

// longest is the longest time within a span in which none of the times lies.
func longest(times []time.Time, from, to time.Time) time.Duration {
	var gap time.Duration
	last := from
	for _, at := range append(times, to) {
		if at.Before(from) || at.After(to) {
			continue
		}
		gap, last = max(gap, at.Sub(last)), at
	}
	return gap
}

// stockUp gives the shop what it will sell, once the warehouse answers.
func stockUp(t *testing.T, url string) {
	t.Helper()
	eventstest.Eventually(t, time.Minute, "the warehouse takes a receipt", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/stock/"+shopSKU+"/receipts", strings.NewReader(`{"quantity": 1000000}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "stock-up")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusCreated || res.StatusCode == http.StatusOK // the second is its repetition
	})
}

// mustKeep expects every promised order to be there, and to have ended.
func (s *shopper) mustKeep() {
	s.t.Helper()
	promised := s.promises()
	if len(promised) == 0 {
		s.t.Error("no order was taken")
	}
	seen := make(map[string]bool, len(promised))
	lost := 0
	for _, a := range promised {
		if seen[a.id] {
			s.t.Errorf("two keys have one order: %s", a.id)
		}
		seen[a.id] = true
		var order struct {
			Status string `json:"status"`
		}
		status := get(s.t, s.url+"/v1/orders/"+a.id, &order)
		if status != http.StatusOK || order.Status != "confirmed" && order.Status != "rejected" {
			lost++
			s.t.Logf("order %s, accepted at %s: %d, %q", a.id, a.at.Format(time.TimeOnly), status, order.Status)
		}
	}
	if lost > 0 {
		s.t.Errorf("%d of %d accepted orders are lost or have not ended", lost, len(promised))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Logf("%s: %d orders accepted, none lost; %d requests; answers that were no acceptance: %v", s.name, len(promised), s.sent, s.statuses)
}
