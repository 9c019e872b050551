package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

const benchSKUs = 200

// driver places orders over HTTP and watches ORDERS for how they end.
type driver struct {
	url    string
	client *http.Client
	nc     *nats.Conn
	watch  jetstream.ConsumeContext

	mu    sync.Mutex
	ended map[string]func(eventType string) // by order, until it ends
	early map[string]string                 // orders that ended before their 202 was read
	next  int
}

func newDriver(ctx context.Context, url, natsURL string) (*driver, error) {
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return nil, err
	}
	d := &driver{
		url: url, nc: nc, ended: make(map[string]func(string)), early: make(map[string]string),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, MaxConnsPerHost: 1024}, Timeout: time.Minute},
	}
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
	e, err := events.Decode(events.Header(m.Headers()), m.Data())
	if err != nil || e.Type == events.TypeOrderPlaced {
		return
	}
	d.mu.Lock()
	done, known := d.ended[e.Subject]
	delete(d.ended, e.Subject)
	if !known {
		d.early[e.Subject] = e.Type
	}
	d.mu.Unlock()
	if known {
		done(e.Type)
	}
}

// run places n orders, at most open at once, and returns how long it took until the last was confirmed.
func (d *driver) run(ctx context.Context, n, open int) (time.Duration, error) {
	slots := make(chan struct{}, open)
	results := make(chan error, n)
	began := time.Now()
	for range n {
		slots <- struct{}{}
		go func() {
			d.place(ctx, func(err error) {
				<-slots
				results <- err
			})
		}()
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
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := d.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != want {
		return "", fmt.Errorf("POST %s: %s: %s", path, res.Status, raw)
	}
	return res.Header.Get("Location"), nil
}
