package suite

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

func cleaningUp(s *Shop) context.Context { return context.WithoutCancel(s.Context()) }

// confirmed: an order's whole way, as its customer sees it.
func confirmed(s *Shop) {
	sku := s.name("A cup/of \"tea\"") // a name that needs encoding wherever it goes
	s.receive(sku, 10)
	o := s.place(s.order("ann", sku, 3))
	s.is(o, "confirmed", "")
	if o.Total != "7.50" || o.Currency != "EUR" || o.Customer != s.name("ann") || o.Version != 2 {
		s.Errorf("order %+v", o)
	}
	s.became(o.ID, "order.placed", "order.confirmed", "stock.reserved", "stock.committed")
	s.until("the units have left the warehouse", func() bool { return s.stock(sku) == stock{OnHand: 7, Available: 7} })

	var was order
	s.read("/v1/orders/"+o.ID+"?as_of=1", &was)
	if was.Status != "placed" {
		s.Errorf("as of version 1 it was %+v", was)
	}
	var page struct{ Items []order }
	s.until("it is listed", func() bool {
		s.read("/v1/orders"+query("customer", s.name("ann")), &page)
		return len(page.Items) == 1 && page.Items[0].Status == "confirmed"
	})
	if a := s.call(http.MethodPost, "/v1/orders/"+o.ID+"/cancel", "{}", nil); a.status != http.StatusConflict {
		s.Errorf("an order that has ended is cancelled: %s", a)
	}
}

// paidAndTold: what an order does outside, it does once.
func paidAndTold(s *Shop) {
	sku := s.name("CUP")
	s.receive(sku, 10)
	o := s.place(s.order("ann", sku, 2))
	s.is(o, "confirmed", "")
	if p, _ := s.payment(o.ID); p.Status != "captured" || p.Amount != 500 {
		s.Errorf("payment %+v, want 5.00 captured", p)
	}
	if all := s.ledger()[o.ID]; len(all) != 1 {
		s.Errorf("the ledger says %+v, want one payment", all)
	}
	for _, m := range s.told(s.email("ann"), 2) {
		if !strings.Contains(m.Subject+m.Body, o.ID) {
			s.Errorf("a mail does not name its order: %+v", m)
		}
	}
}

// refused: each rule has its answer, and nothing comes of a request that breaks one.
func refused(s *Shop) {
	good := s.order("ann", s.name("CUP"), 1)
	change := func(f func(*newOrder)) newOrder {
		o := good
		o.Lines = slices.Clone(good.Lines)
		f(&o)
		return o
	}
	for name, c := range map[string]struct {
		body  any
		want  int
		field string
	}{
		"no lines":        {change(func(o *newOrder) { o.Lines = []line{} }), 422, "body.lines"},
		"no units":        {change(func(o *newOrder) { o.Lines[0].Quantity = 0 }), 422, "quantity"},
		"a debt":          {change(func(o *newOrder) { o.Lines[0].UnitPrice = "-1.00" }), 422, "unit_price"},
		"half a cent":     {change(func(o *newOrder) { o.Lines[0].UnitPrice = "1.005" }), 422, "unit_price"},
		"no such money":   {change(func(o *newOrder) { o.Currency = "EURO" }), 422, "currency"},
		"no address":      {change(func(o *newOrder) { o.Email = "ann at home" }), 422, "email"},
		"tomorrow":        {change(func(o *newOrder) { o.PlacedAt = time.Now().Add(24 * time.Hour) }), 422, "placed_at"},
		"a misspelt name": {`{"customer":"c","curency":"EUR","lines":[{"sku":"A","quantity":1,"unit_price":"1.00"}]}`, 422, "curency"},
		"no JSON":         {`{"lines":`, 400, ""},
	} {
		a := s.call(http.MethodPost, "/v1/orders", c.body, nil)
		if a.status != c.want || !strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") || !strings.Contains(string(a.body), c.field) {
			s.Errorf("%s: %s (%s), want %d that names %q", name, a, a.header.Get("Content-Type"), c.want, c.field)
		}
	}
	for path, want := range map[string]int{
		"/v1/orders/" + strings.Repeat("a", 26): 404, "/v1/stock/" + s.name("nothing"): 404, "/v1/windows?query=nothing": 404, "/v1/nothing": 404,
	} {
		if a := s.call(http.MethodGet, path, nil, nil); a.status != want {
			s.Errorf("GET %s: %s, want %d", path, a, want)
		}
	}
	var page struct{ Items []order }
	if s.read("/v1/orders"+query("customer", s.name("ann")), &page); len(page.Items) > 0 {
		s.Errorf("refused orders are there: %+v", page.Items)
	}
}

// repeated: an idempotency key makes a request one request.
func repeated(s *Shop) {
	sku := s.name("CUP")
	s.receive(sku, 10)
	s.receive(sku, 10)
	key := map[string]string{"Idempotency-Key": s.name("order"), "Prefer": "wait=20"}
	o := s.order("ann", sku, 2)
	first, _ := s.placeWith(o, key)
	s.is(first, "confirmed", "")
	second, a := s.placeWith(o, key)
	if second.ID != first.ID || a.header.Get("Idempotency-Replayed") != "true" {
		s.Errorf("repeated, it is %+v (replayed: %q), before it was %s", second, a.header.Get("Idempotency-Replayed"), first.ID)
	}
	other := s.order("ann", sku, 3)
	if a := s.call(http.MethodPost, "/v1/orders", other, key); a.status != http.StatusUnprocessableEntity {
		s.Errorf("another order under the same key: %s, want 422", a)
	}
	if a := s.call(http.MethodPost, "/v1/stock/"+url.PathEscape(sku)+"/receipts", `{"quantity":11}`, map[string]string{"Idempotency-Key": "receipt of " + sku}); a.status != http.StatusUnprocessableEntity {
		s.Errorf("another receipt under the same key: %s, want 422", a)
	}
	s.became(first.ID, "order.placed", "order.confirmed", "stock.reserved", "stock.committed")
	s.until("two units of ten have left the warehouse", func() bool { return s.stock(sku) == stock{OnHand: 8, Available: 8} })
}

// outOfStock: all lines are reserved or none.
func outOfStock(s *Shop) {
	have, lack := s.name("CUP"), s.name("SAUCER")
	s.receive(have, 10)
	s.receive(lack, 1)
	o := s.order("ann", have, 2)
	o.Lines = append(o.Lines, line{lack, 2, "1.00"})
	placed := s.place(o)
	s.is(placed, "rejected", "out_of_stock")
	s.became(placed.ID, "order.placed", "order.rejected", "stock.rejected")
	if has := s.stock(have); has != (stock{OnHand: 10, Available: 10}) {
		s.Errorf("of what was there, %+v is left", has)
	}
	if s.at.Gateway != "" {
		if p, found := s.payment(placed.ID); found && p.Status != "voided" {
			s.Errorf("payment %+v", p)
		}
		s.told(s.email("ann"), 2)
	}
}

// lastUnits: twenty customers want the last seven units at once.
func lastUnits(s *Shop) {
	const units, customers = 7, 20
	sku := s.name("CUP")
	s.receive(sku, units)
	var wg sync.WaitGroup
	got := make([]order, customers)
	for i := range got {
		wg.Go(func() {
			a, err := s.ask(s.Context(), http.MethodPost, s.at.API+"/v1/orders", s.order(fmt.Sprint("c", i), sku, 1), map[string]string{"Prefer": "wait=20", "Idempotency-Key": s.name(fmt.Sprint("last-", i))})
			if err != nil || a.status != http.StatusAccepted {
				s.Errorf("order %d: %s %v", i, a, err)
				return
			}
			a.into(s, &got[i])
		})
	}
	wg.Wait()
	n := make(map[string]int)
	for _, o := range got {
		o = s.end(o.ID)
		n[o.Status+" "+o.Reason]++
	}
	if n["confirmed "] != units || n["rejected out_of_stock"] != customers-units {
		s.Errorf("%v of %d customers for %d units", n, customers, units)
	}
	s.until("nothing is left", func() bool { return s.stock(sku) == stock{} })
}
