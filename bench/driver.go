package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

const benchSKUs = 200

// driver places orders at the API's handler, in the process, and watches ORDERS for how they end. So neither side of the comparison has sockets between the
// one who orders and the one who publishes.
type driver struct {
	api   http.Handler
	nc    *nats.Conn
	watch jetstream.ConsumeContext

	mu    sync.Mutex
	ended map[string]func(eventType string) // by order, until it ends
	early map[string]string                 // orders that ended before their 202 was read
	next  int
}

func newDriver(ctx context.Context, api http.Handler, natsURL string) (*driver, error) {
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return nil, err
	}
	d := &driver{api: api, nc: nc, ended: make(map[string]func(string)), early: make(map[string]string)}
	for i := range benchSKUs {
		if _, err := d.post(ctx, "/v1/stock/"+sku(i)+"/receipts", "bench-"+sku(i), `{"quantity": 100000000}`, http.StatusCreated); err != nil {
			return nil, err
		}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	c, err := js.OrderedConsumer(ctx, events.StreamOrders, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return nil, err
	}
	d.watch, err = c.Consume(d.see)
	return d, err
}

func sku(i int) string { return fmt.Sprintf("bench-%03d", i%benchSKUs) }

func (d *driver) close() {
	if d.watch != nil {
		d.watch.Stop()
	}
	d.nc.Close()
}

func (d *driver) see(m jetstream.Msg) {
	// Not more than the plain side looks at: the type is not part of our subjects.
	eventType, order := m.Headers().Get("ce-type"), lastToken(m.Subject())
	if eventType == events.TypeOrderPlaced {
		return
	}
	d.mu.Lock()
	done, known := d.ended[order]
	delete(d.ended, order)
	if !known {
		d.early[order] = eventType
	}
	d.mu.Unlock()
	if known {
		done(eventType)
	}
}

// run places n orders, at most open at once, and returns how long it took until the last was confirmed.
func (d *driver) run(ctx context.Context, n, open int) (time.Duration, error) {
	slots := make(chan struct{}, open)
	results := make(chan error, n)
	ended := func(err error) {
		<-slots
		results <- err
	}
	// Callers are kept, as connections would be: a goroutine for each order would have to grow its stack anew.
	jobs := make(chan struct{})
	defer close(jobs)
	for range open {
		go func() {
			for range jobs {
				d.place(ctx, ended)
			}
		}()
	}
	began := time.Now()
	for range n {
		slots <- struct{}{}
		jobs <- struct{}{}
	}
	for range n {
		select {
		case err := <-results:
			if err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return time.Since(began), nil
}

// place posts one order and calls done when it has ended, or could not be placed.
func (d *driver) place(ctx context.Context, done func(error)) {
	d.mu.Lock()
	i := d.next
	d.next++
	d.mu.Unlock()
	body := fmt.Sprintf(`{"customer":"c-%04d","currency":"GBP","lines":[{"sku":%q,"quantity":1,"unit_price":"5.05"},{"sku":%q,"quantity":1,"unit_price":"5.05"}]}`, i%1000, sku(i), sku(i+7))
	location, err := d.post(ctx, "/v1/orders", "", body, http.StatusAccepted)
	if err != nil {
		done(err)
		return
	}
	id := location[len("/v1/orders/"):]
	end := func(eventType string) {
		if eventType != events.TypeOrderConfirmed {
			done(fmt.Errorf("order %s ended as %s", id, eventType))
			return
		}
		done(nil)
	}
	d.mu.Lock()
	eventType, ended := d.early[id]
	delete(d.early, id)
	if !ended {
		d.ended[id] = end
	}
	d.mu.Unlock()
	if ended {
		end(eventType)
	}
}

func (d *driver) post(ctx context.Context, path, key, body string, want int) (location string, err error) {
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res := httptest.NewRecorder()
	d.api.ServeHTTP(res, req)
	if res.Code != want {
		return "", fmt.Errorf("POST %s: %d: %s", path, res.Code, res.Body)
	}
	return res.Header().Get("Location"), nil
}
