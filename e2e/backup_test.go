package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// shop is a client that places orders at a steady rate, remembers every request, answered or not, and can send all of them again.
type shop struct {
	t     *testing.T
	api   *client.Client
	rate  time.Duration // between two orders
	stock int64         // of each SKU

	mu   sync.Mutex
	sent []client.NewOrder // under the key order-<index>
}

const (
	shopSKUs  = 5
	shopLines = 2
)

func newShop(t *testing.T, url string, rate time.Duration, stock int64) *shop {
	t.Helper()
	api, err := client.New(client.Config{URL: url, Patience: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return &shop{t: t, api: api, rate: rate, stock: stock}
}

func (s *shop) receive() {
	s.t.Helper()
	for n := range shopSKUs {
		sku := fmt.Sprintf("SKU-%d", n)
		if _, err := s.api.Receive(s.t.Context(), sku, "delivery-"+sku, s.stock); err != nil {
			s.t.Fatal(err)
		}
	}
}

// run places orders until ctx ends, whatever comes of them.
func (s *shop) run(ctx context.Context) {
	tick := time.NewTicker(s.rate)
	defer tick.Stop()
	var open errgroup.Group
	defer func() { _ = open.Wait() }()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		n, o := s.next()
		open.Go(func() error {
			_, err := s.api.PlaceOrder(ctx, fmt.Sprintf("order-%d", n), o)
			return err
		})
		open.Go(func() error {
			ev, err := events.New("/shop", events.TypePageClicked, "ann", time.Now(), events.PageClicked{Page: fmt.Sprintf("/%d", n%3)})
			if err != nil {
				return err
			}
			_, err = s.api.PostClicks(ctx, []events.Event{ev})
			return err
		})
	}
}

func (s *shop) next() (int, client.NewOrder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.sent)
	customer := fmt.Sprintf("c%d", n%20)
	o := client.NewOrder{Customer: customer, Email: customer + "@customers.example", Currency: "GBP", PlacedAt: time.Now().UTC().Truncate(time.Second)}
	for line := range shopLines {
		o.Lines = append(o.Lines, client.Line{SKU: fmt.Sprintf("SKU-%d", (n+line)%shopSKUs), Quantity: int64(1 + n%2), UnitPrice: "2.50"})
	}
	s.sent = append(s.sent, o)
	return n, o
}

func (s *shop) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}

// repeat sends every request again under its key, and waits until each order has ended.
func (s *shop) repeat() map[string]client.Order {
	s.t.Helper()
	s.receive()
	orders := make([]client.Order, s.count())
	var all errgroup.Group
	all.SetLimit(8)
	for n := range orders {
		all.Go(func() error {
			p, err := s.api.PlaceOrder(s.t.Context(), fmt.Sprintf("order-%d", n), s.sent[n])
			orders[n] = p.Order
			return err
		})
	}
	if err := all.Wait(); err != nil {
		s.t.Fatal(err)
	}
	out := make(map[string]client.Order, len(orders))
	eventstest.Eventually(s.t, time.Minute, "every order has ended", func() bool {
		for n := range orders {
			if orders[n].Ended() {
				out[orders[n].ID] = orders[n]
				continue
			}
			o, err := s.api.Order(s.t.Context(), orders[n].ID)
			if err != nil {
				s.t.Fatal(err)
			}
			if orders[n] = o; !o.Ended() {
				return false
			}
		}
		return len(out) == len(orders)
	})
	return out
}

// ended is every order that has ended by now, with its state.
func (s *shop) ended() map[string]string {
	s.t.Helper()
	out := make(map[string]string)
	for o, err := range s.api.Orders(s.t.Context(), client.OrderFilter{}) {
		if err != nil {
			s.t.Fatal(err)
		}
		if o.Ended() {
			out[o.ID] = o.Status
		}
	}
	return out
}

// taken is the manifest of a backup, as far as the tests look at it.
type taken struct {
	HeldMS  int64 `json:"held_ms"`
	Settled bool  `json:"settled"`
	Streams []struct {
		Name     string `json:"name"`
		Messages int    `json:"messages"`
		Last     uint64 `json:"last_seq"`
	} `json:"streams"`
}

func (b taken) messages(stream string) int {
	for _, s := range b.Streams {
		if s.Name == stream {
			return s.Messages
		}
	}
	return -1
}

func backup(t *testing.T, dir string, where ...string) taken {
	t.Helper()
	out, status := verb(t, append([]string{"backup", dir, "--json"}, where...)...)
	var b taken
	if err := json.Unmarshal([]byte(out), &b); err != nil || status != 0 {
		t.Fatalf("backup: status %d, %v", status, err)
	}
	return b
}

// eventuallyHolds is for a system whose last books are put in order at the deadlines of its orders.
func eventuallyHolds(t *testing.T, url string, limit time.Duration) {
	t.Helper()
	var out string
	deadline := time.Now().Add(limit)
	for status := 1; status != 0; {
		if out, status = verb(t, "check", "--to", url, "--json", "--wait", "10s"); status != 0 && time.Now().After(deadline) {
			t.Fatalf("check is not 0 after %s:\n%s", limit, out)
		}
	}
}

// told counts, for each message of the mail sink, how often it was taken.
func told(t *testing.T, api *client.Client) map[string]int {
	t.Helper()
	out := make(map[string]int)
	for m, err := range api.Mails(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind != "refused" {
			out[m.MessageID]++
		}
	}
	return out
}

// charged counts how often each key was captured.
func charged(t *testing.T, url string) map[string]int {
	t.Helper()
	var where struct {
		Gateway string `json:"gateway_url"`
	}
	get(t, url+"/v1/system", &where)
	gateway, err := client.New(client.Config{URL: where.Gateway})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	out := make(map[string]int)
	for e, err := range gateway.Ledger(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == client.LedgerCaptured {
			out[e.Key]++
		}
	}
	return out
}

// TestBackupUnderLoad backs up while orders come in, goes on, kills everything and removes what the broker stored, restores, and lets the client send all its requests again. Then the
// books must agree, also with those of the payment gateway and the mail server, which know nothing of a restore.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	data, dir := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "backup")
	u := startUpOn(t, data, "--order-deadline", "4s")
	send(t, "PUT", "http://"+u.args[4]+"/v1/faults", `{"decline_rate": 0.1}`, 200)
	s := newShop(t, u.url, 10*time.Millisecond, 70) // not enough for all
	s.receive()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx) }()
	defer func() { stop(); <-done }()
	eventstest.Eventually(t, time.Minute, "orders are placed", func() bool { return s.count() >= 100 })
	before := s.ended()
	b := backup(t, dir, "--to", u.url)
	after := s.count()
	eventstest.Eventually(t, time.Minute, "more orders are placed", func() bool { return s.count() >= after+100 })
	u.kill()
	stop()
	<-done
	if !b.Settled || b.messages(events.StreamOrders) < 2*len(before) || len(before) == 0 {
		t.Errorf("the backup is %+v; %d orders had ended before", b, len(before))
	}

	if err := os.RemoveAll(filepath.Join(data, "nats")); err != nil {
		t.Fatal(err)
	}
	if _, status := verb(t, "restore", dir, "--data", data); status != 0 {
		t.Fatalf("restore: exit status %d", status)
	}
	u.again(t)
	kept := s.ended()
	for id, status := range before {
		if kept[id] != status {
			t.Errorf("order %s was %s before the backup and is %q now", id, status, kept[id])
		}
	}
	mails := told(t, s.api)
	orders := s.repeat()
	eventuallyHolds(t, u.url, time.Minute)

	sold, confirmed := make(map[string]int64), 0
	for _, o := range orders {
		if o.Status != client.StatusConfirmed {
			continue
		}
		confirmed++
		full, err := s.api.Order(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range full.Lines {
			sold[l.SKU] += l.Quantity
		}
	}
	for sku, n := range sold {
		if stock, err := s.api.Stock(t.Context(), sku); err != nil || stock.OnHand+n != s.stock || n > s.stock {
			t.Errorf("%s: %d sold of %d, %d on hand (%v)", sku, n, s.stock, stock.OnHand, err)
		}
	}
	for key, n := range charged(t, u.url) {
		if n != 1 {
			t.Errorf("order %s was charged %d times", key, n)
		}
	}
	twice := 0
	for id, n := range told(t, s.api) {
		order, _, _ := strings.Cut(id, ".")
		if _, ended := before[order]; n > 1 && ended {
			t.Errorf("mail %s of an order that had ended before the backup was sent %d times", id, n)
		}
		if n > mails[id] && mails[id] > 0 {
			twice++
		}
	}
	t.Logf("%d orders, %d confirmed; %d mails of orders that were open at the backup or came after it were sent again under the same Message-ID", len(orders), confirmed, twice)
	if confirmed == 0 || confirmed == len(orders) {
		t.Errorf("%d of %d orders are confirmed: too one-sided to say anything", confirmed, len(orders))
	}
}
