package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"
)

const benchSKUs = 200

// driver places orders at the API's handler, in the process, and asks it to wait for how they end, as a customer would. So neither side of the comparison has sockets
// between the one who orders and the one who publishes, nor a reader of the log that is there for the measurement only.
type driver struct {
	api  http.Handler
	next atomic.Int64
}

func newDriver(ctx context.Context, api http.Handler) (*driver, error) {
	d := &driver{api: api}
	for i := range benchSKUs {
		if _, err := d.post(ctx, "/v1/stock/"+sku(i)+"/receipts", "Idempotency-Key", "bench-"+sku(i), `{"quantity": 100000000}`, http.StatusCreated); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func sku(i int) string { return fmt.Sprintf("bench-%03d", i%benchSKUs) }

// run lets as many customers as may be open at once place n orders one after the other, and returns how long it took until the last was confirmed.
func (d *driver) run(ctx context.Context, n, open int) (time.Duration, error) {
	orders := make(chan struct{}, n)
	for range n {
		orders <- struct{}{}
	}
	close(orders)
	results := make(chan error, n)
	began := time.Now()
	for range min(open, n) {
		go func() {
			for range orders {
				results <- d.place(ctx)
			}
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

// place posts one order and returns when it is confirmed. Any other end is an error.
func (d *driver) place(ctx context.Context) error {
	i := int(d.next.Add(1))
	body := fmt.Sprintf(`{"customer":"c-%04d","currency":"GBP","lines":[{"sku":%q,"quantity":1,"unit_price":"5.05"},{"sku":%q,"quantity":1,"unit_price":"5.05"}]}`, i%1000, sku(i), sku(i+7))
	answer, err := d.post(ctx, "/v1/orders", "Prefer", "wait=30", body, http.StatusAccepted)
	if err == nil && !strings.Contains(answer, `"status":"confirmed"`) {
		err = fmt.Errorf("an order was not confirmed within 30 s: %s", answer)
	}
	return err
}

func (d *driver) post(ctx context.Context, path, header, value, body string, want int) (answer string, err error) {
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(header, value)
	res := httptest.NewRecorder()
	d.api.ServeHTTP(res, req)
	if res.Code != want {
		return "", fmt.Errorf("POST %s: %d: %s", path, res.Code, res.Body)
	}
	return res.Body.String(), nil
}
