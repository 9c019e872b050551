package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// bareShop is the last step: a customer orders at an HTTP handler, in the process, as at ours, and the order is paid over HTTP through a socket of this machine.
type bareShop struct {
	*bareOrders
	driver  *driver
	gateway *http.Server
	client  *http.Client
	url     string
}

func newBareShop(ctx context.Context, o *bareOrders) (*bareShop, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	const connections = 256 // as the order service keeps
	gateway := http.NewServeMux()
	gateway.HandleFunc("POST /v1/payments", capture)
	s := &bareShop{
		bareOrders: o, url: "http://" + l.Addr().String() + "/v1/payments",
		gateway: &http.Server{Handler: gateway, ReadHeaderTimeout: time.Minute},
		client:  &http.Client{Transport: &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections}},
	}
	go func() { _ = s.gateway.Serve(l) }() // ends with close
	o.pay = s.pay
	api := http.NewServeMux()
	api.HandleFunc("POST /v1/orders", s.order)
	s.driver = &driver{api: api}
	return s, nil
}

func (s *bareShop) close() {
	s.client.CloseIdleConnections()
	_ = s.gateway.Close() // nothing is in flight
	s.bareOrders.close()
}

// work lets the same customers order as order at ours.
func (s *bareShop) work(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if _, err := s.driver.run(ctx, s.flow.n, cap(s.flow.slots)); err != nil {
		return 0, err
	}
	if err := s.awaitAll(ctx, s.flow.committed, s.flow.n); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, s.awaitAll(ctx, s.flow.handled, s.flow.deliveries*s.flow.n)
}

// bareOrder is a request and its answer.
type bareOrder struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Customer string `json:"customer"`
	Currency string `json:"currency"`
	Lines    []struct {
		SKU       string `json:"sku"`
		Quantity  int64  `json:"quantity"`
		UnitPrice string `json:"unit_price"`
	} `json:"lines,omitempty"`
}

// order places one order, and answers when a read model has seen that it is confirmed.
func (s *bareShop) order(w http.ResponseWriter, r *http.Request) {
	var o bareOrder
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.ID, o.Status = events.NewID(), kindConfirmed
	ended := make(chan struct{})
	s.ended.Store(o.ID, ended)
	select {
	case s.flow.slots <- struct{}{}:
	case <-s.broken:
	}
	s.place(o.ID)
	select {
	case <-ended:
	case <-s.broken:
		http.Error(w, s.failure().Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(o)
}

// bareCharge is what the gateway is asked, and barePayment what it answers.
type bareCharge struct {
	OrderID  string       `json:"order_id"`
	Amount   events.Minor `json:"amount_minor"`
	Currency string       `json:"currency"`
}

type barePayment struct {
	ID     string `json:"payment_id"`
	Status string `json:"status"`
}

func capture(w http.ResponseWriter, r *http.Request) {
	var c bareCharge
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(barePayment{ID: "pay_" + c.OrderID, Status: "captured"})
}

func (s *bareShop) pay(ctx context.Context, order string) error {
	body, err := json.Marshal(bareCharge{OrderID: order, Amount: 1010, Currency: "GBP"})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", order)
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read only
	var paid barePayment
	if err := json.NewDecoder(res.Body).Decode(&paid); err != nil {
		return fmt.Errorf("pay order %s: status %d: %w", order, res.StatusCode, err)
	}
	return nil
}
