package load

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/client"
)

const header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"

// sample has an invoice that another interrupts (1), a cancellation (C2), a guest (3), a negative and a three-decimal price (4, 5), a SKU with a space.
const sample = header +
	"1,A,\"RED, WITH COMMA\",2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n" +
	"C2,B,BACK,-1,2010-12-01 08:27:00,1.25,17850.0,United Kingdom\n" +
	"1,BANK CHARGES,FEE,1,2010-12-01 08:27:00,0.5,17850.0,United Kingdom\n" +
	"3,A,RED,3,2011-07-01 10:00:00,0,,France\n" +
	"4,A,RED,3,2011-07-01 10:01:00,-2.00,,France\n" +
	"5,A,RED,3,2011-07-01 10:02:00,2.005,,France\n"

func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "invoices.csv")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func mustRun(t *testing.T, cfg Config) (Summary, string) {
	t.Helper()
	var progress bytes.Buffer
	s, err := Run(t.Context(), cfg, io.Discard, &progress)
	if err != nil {
		t.Fatalf("load: %v\n%s", err, progress.String())
	}
	return s, progress.String()
}

func TestFileIsSentAsItIs(t *testing.T) {
	t.Parallel()
	shop := newShop()
	cfg := Config{API: shop.start(t), CSV: write(t, sample), Stock: 500, Wait: true}
	got, _ := mustRun(t, cfg)
	want := Summary{Rows: 6, Invoices: 5, Placed: 2, Refused: 3, Confirmed: 2, Seconds: got.Seconds, OrdersPerSecond: got.OrdersPerSecond}
	if got != want {
		t.Fatalf("first run: got %+v, want %+v", got, want)
	}
	wantFirst := client.NewOrder{
		Customer: "17850", Email: "17850@customers.example", Currency: "GBP", PlacedAt: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC),
		Lines: []client.Line{{SKU: "A", Quantity: 2, UnitPrice: "2.55"}, {SKU: "BANK CHARGES", Quantity: 1, UnitPrice: "0.5"}},
	}
	if !reflect.DeepEqual(shop.sent["1"], wantFirst) {
		t.Errorf("invoice 1: got %+v, want %+v", shop.sent["1"], wantFirst)
	}
	guest := shop.sent["3"]
	if guest.Customer != "" || guest.Email != "" || !guest.PlacedAt.Equal(time.Date(2011, 7, 1, 9, 0, 0, 0, time.UTC)) {
		t.Errorf("invoice 3: got %+v, want a guest, and 10:00 of London's summer as 09:00 UTC", guest)
	}
	for key, price := range map[string]string{"4": "-2.00", "5": "2.005"} {
		if l := shop.sent[key].Lines; len(l) != 1 || l[0].UnitPrice != price {
			t.Errorf("invoice %s: lines %+v, want the price %s as it stands in the file", key, l, price)
		}
	}
	if shop.sent["C2"].Lines[0].Quantity != -1 {
		t.Errorf("cancellation: got %+v, want its quantity as it is", shop.sent["C2"])
	}
	wantUnits := map[string]int64{"A": 500, "B": 500, "BANK CHARGES": 500}
	if !reflect.DeepEqual(shop.units, wantUnits) {
		t.Errorf("stock: got %v, want %v", shop.units, wantUnits)
	}

	again, _ := mustRun(t, cfg)
	if again.Placed != 0 || again.Duplicates != 2 || again.Refused != 3 || again.Confirmed != 2 || again.Open != 0 {
		t.Errorf("second run: got %+v, want nothing new", again)
	}
	if !reflect.DeepEqual(shop.units, wantUnits) {
		t.Errorf("stock after a second run: got %v, want %v", shop.units, wantUnits)
	}
}

func TestGzipAndLimitAndOutput(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.WriteString(z, sample); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	shop := newShop()
	var out bytes.Buffer
	cfg := Config{API: shop.start(t), CSV: write(t, packed.String()), Limit: 2, JSON: true, Stock: 5}
	if _, err := Run(t.Context(), cfg, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("output: %q is not one line", out.String())
	}
	var got map[string]float64
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"rows": 3, "bad_rows": 0, "invoices": 2, "placed": 1, "duplicates": 0, "refused": 1, "confirmed": 1, "rejected": 0, "cancelled": 0, "open": 0}
	for name, v := range want {
		if value, ok := got[name]; !ok || value != v {
			t.Errorf("%s: got %v, want %v", name, value, v)
		}
	}
	for _, name := range []string{"seconds", "orders_per_second"} {
		if got[name] <= 0 {
			t.Errorf("%s: got %v, want more than 0", name, got[name])
		}
	}
	if _, stocked := shop.units["A"]; !stocked || len(shop.units) != 3 {
		t.Errorf("stock: got %v, want the SKUs of the two invoices", shop.units)
	}
}

func TestBadLinesAreToldAndLeftOut(t *testing.T) {
	t.Parallel()
	content := header +
		"1,A,x,2,2010-12-01 08:26:00,2.55,17850.0,UK\n" +
		"1,A,x,2,2010-12-01 08:26:00,2.55,17850.0\n" + // line 3: a field short
		"1,A,x,two,2010-12-01 08:26:00,2.55,17850.0,UK\n" + // line 4
		"1,A,x,2,1 December,2.55,17850.0,UK\n" + // line 5
		"1,A,x,2,2010-12-01 08:26:00,cheap,17850.0,UK\n" + // line 6
		",A,x,2,2010-12-01 08:26:00,2.55,17850.0,UK\n" + // line 7
		"1,A,\"never closed,2,2010-12-01 08:26:00,2.55,17850.0,UK\n" + // line 8
		"\n" + // empty: nothing
		"1,B,\"two\nlines\",2,2010-12-01 08:26:00,2.55,17850.0,UK\n" + // lines 10 and 11 are one record
		"2,C," + strings.Repeat("y", maxLine) + ",2,2010-12-01 08:26:00,2.55,17850.0,UK\n" + // line 12
		"2,A,\"closed\"?,1,2010-12-01 08:26:00,2.55,17850.0,UK\n" + // line 13
		"2,A,x,1,2010-12-01 08:26:00,1e309,17850.0,UK\n" + // line 14
		"2,A\x00,x,1,2010-12-01 08:26:00,1,17850.0,UK\n" + // line 15
		"2,A,x,1,2010-12-01 08:26:00,2.55,17850.0,UK" // no line end
	shop := newShop()
	got, told := mustRun(t, Config{API: shop.start(t), CSV: write(t, content)})
	if got.Rows != 13 || got.BadRows != 10 || got.Invoices != 2 || got.Placed != 2 {
		t.Errorf("got %+v, want 13 rows, 10 of them bad, 2 invoices placed", got)
	}
	for _, line := range []int{3, 4, 5, 6, 7, 8, 12, 13, 14, 15} {
		if !strings.Contains(told, fmt.Sprintf("line %d: ", line)) {
			t.Errorf("line %d is not told: %s", line, told)
		}
	}
	if l := shop.sent["1"].Lines; len(l) != 2 || l[1].SKU != "B" {
		t.Errorf("invoice 1: lines %+v, want both that can be read", l)
	}
}

func TestManyBadLinesAreCounted(t *testing.T) {
	t.Parallel()
	shop := newShop()
	got, told := mustRun(t, Config{API: shop.start(t), CSV: write(t, header+strings.Repeat("short\n", 25))})
	if got.BadRows != 25 || got.Invoices != 0 {
		t.Errorf("got %+v, want 25 bad rows and nothing else", got)
	}
	if strings.Contains(told, "line 22:") || !strings.Contains(told, "line 21:") || !strings.Contains(told, "25 lines in all") {
		t.Errorf("told: %s, want 20 lines and the count", told)
	}
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	var cut bytes.Buffer
	z := gzip.NewWriter(&cut)
	if _, err := io.WriteString(z, sample); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  Config
		says string
	}{
		"missing columns":  {Config{CSV: write(t, "InvoiceNo,Description,Quantity,InvoiceDate,UnitPrice\n1,x,1,2010-12-01 08:26:00,1\n")}, "StockCode, CustomerID"},
		"empty file":       {Config{CSV: write(t, "")}, "is empty"},
		"no such file":     {Config{CSV: "/nowhere/invoices.csv"}, "/nowhere/invoices.csv"},
		"a directory":      {Config{CSV: t.TempDir()}, "can't be read"},
		"cut short":        {Config{CSV: write(t, cut.String()[:cut.Len()-10])}, "can't be read"},
		"speed":            {Config{CSV: "x", Speed: "fast"}, "speed"},
		"file and rate":    {Config{CSV: "x", Rate: 5}, "rate"},
		"neither":          {Config{}, "rate"},
		"no time":          {Config{Rate: 5}, "for"},
		"limit of made-up": {Config{Rate: 5, For: time.Second, Limit: 3}, "limit"},
		"poison in a file": {Config{CSV: "x", Poison: 0.1}, "poison"},
		"too much poison":  {Config{Rate: 5, For: time.Second, Poison: 0.3}, "poison"},
		"twice in a file":  {Config{CSV: "x", Twice: 0.1}, "twice"},
		"too much twice":   {Config{Rate: 5, For: time.Second, Twice: 1.1}, "twice"},
		"stretched, early": {Config{CSV: "x", LateStretch: 2}, "late stretch"},
		"stretched back":   {Config{CSV: "x", Late: true, LateStretch: -2}, "late stretch"},
		"stretched far":    {Config{CSV: "x", Late: true, LateStretch: 1e6}, "late stretch"},
		"in flight":        {Config{CSV: "x", InFlight: 5000}, "in flight"},
		"stock":            {Config{CSV: "x", Stock: -1}, "stock"},
		"address":          {Config{API: "localhost:8080", Rate: 1, For: time.Second}, "http://"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.cfg.API == "" {
				c.cfg.API = "http://127.0.0.1:1"
			}
			var out bytes.Buffer
			_, err := Run(t.Context(), c.cfg, &out, io.Discard)
			if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want wrong use that names %q", err, c.says)
			}
			if out.Len() > 0 {
				t.Errorf("printed %q", out.String())
			}
		})
	}
}

// A line that can't be attributed must not break the header's search: columns may stand in any order and case.
func TestColumnsAreFoundByName(t *testing.T) {
	t.Parallel()
	content := "\ufeffCustomerID,Extra,unitprice,InvoiceDate,Quantity,StockCode,InvoiceNo\r\n9.0,x,1.00,2010-12-01 08:26:00,1,A,7\r\n"
	shop := newShop()
	mustRun(t, Config{API: shop.start(t), CSV: write(t, content)})
	if o := shop.sent["7"]; o.Customer != "9" || len(o.Lines) != 1 || o.Lines[0] != (client.Line{SKU: "A", Quantity: 1, UnitPrice: "1.00"}) {
		t.Errorf("got %+v", o)
	}
}

func many(n int) string {
	var b strings.Builder
	b.WriteString(header)
	for i := range n {
		fmt.Fprintf(&b, "%06d,A,x,1,2010-12-01 08:26:00,1,5.0,UK\n", i)
	}
	return b.String()
}

// An API that fails in every way that passes gets every order under one key, once.
func TestFaultsThatPass(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		status int
		after  bool
	}{
		"hangs up before": {1, false}, "hangs up after": {1, true}, "500 before": {500, false}, "503 after": {503, true}, "429": {429, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shop := newShop()
			var calls atomic.Int64
			shop.setFault(func(*http.Request) (int, bool) {
				if calls.Add(1)%3 == 1 {
					return fault.status, fault.after
				}
				return 0, false
			})
			const orders = 40
			got, _ := mustRun(t, Config{API: shop.start(t), CSV: write(t, many(orders)), Stock: 7, InFlight: 4, Wait: true})
			if got.Placed != orders || got.Duplicates != 0 || got.Confirmed != orders || got.Open != 0 {
				t.Errorf("got %+v, want %d placed by this run, all confirmed", got, orders)
			}
			if len(shop.orders) != orders || shop.units["A"] != 7 {
				t.Errorf("the shop has %d orders and %d units, want %d and 7", len(shop.orders), shop.units["A"], orders)
			}
		})
	}
}

// What an earlier run has placed stays a duplicate, also where this run had to ask twice.
func TestDuplicateAfterLostAnswer(t *testing.T) {
	t.Parallel()
	shop := newShop()
	cfg := Config{API: shop.start(t), CSV: write(t, many(5))}
	mustRun(t, cfg)
	var calls atomic.Int64
	shop.setFault(func(*http.Request) (int, bool) {
		if calls.Add(1) == 1 {
			return 1, true
		}
		return 0, false
	})
	got, _ := mustRun(t, cfg)
	if got.Placed != 0 || got.Duplicates != 5 {
		t.Errorf("got %+v, want 5 duplicates", got)
	}
}

// The API is not there when the load begins, and comes later.
func TestWaitsForTheAPI(t *testing.T) {
	t.Parallel()
	addr := closedPort(t)
	shop := newShop()
	server := &http.Server{Handler: shop, ReadHeaderTimeout: time.Second}
	told := &signal{seen: make(chan struct{}), text: "waiting for the API"}
	served := make(chan error, 1)
	go func() {
		<-told.seen
		l, err := net.Listen("tcp", addr)
		if err != nil {
			served <- err
			return
		}
		served <- server.Serve(l)
	}()
	got, err := Run(t.Context(), Config{API: "http://" + addr, CSV: write(t, many(3))}, io.Discard, told)
	if err != nil {
		t.Fatal(err)
	}
	if got.Placed != 3 {
		t.Errorf("got %+v, want 3 placed", got)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// signal closes seen when the text is first written.
type signal struct {
	text string
	seen chan struct{}
	done atomic.Bool
}

func (s *signal) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.text)) && s.done.CompareAndSwap(false, true) {
		close(s.seen)
	}
	return len(p), nil
}

// An interrupted load ends at once and still tells how far it came.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	shop := newShop()
	shop.pending = 1 << 30 // no order ever ends
	shop.setFault(func(r *http.Request) (int, bool) {
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/orders/") {
			cancel()
		}
		return 0, false
	})
	var out bytes.Buffer
	got, err := Run(ctx, Config{API: shop.start(t), CSV: write(t, many(10)), Wait: true, JSON: true}, &out, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error: got %v, want that it was cancelled", err)
	}
	if got.Placed != 10 || got.Open != 10 || out.Len() == 0 {
		t.Errorf("got %+v and %q, want 10 placed and open", got, out.String())
	}
}

// Without --wait orders may be open at the end; with it none is.
func TestOpenOrders(t *testing.T) {
	t.Parallel()
	shop := newShop()
	shop.pending = 25
	cfg := Config{API: shop.start(t), CSV: write(t, many(10))}
	if got, _ := mustRun(t, cfg); got.Open != 10 || got.Confirmed != 0 {
		t.Errorf("without wait: got %+v, want 10 open", got)
	}
	cfg.Wait = true
	if got, _ := mustRun(t, cfg); got.Open != 0 || got.Confirmed != 10 {
		t.Errorf("with wait: got %+v, want all confirmed", got)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	t.Run("one order", func(t *testing.T) {
		t.Parallel()
		shop := newShop()
		shop.setFault(func(r *http.Request) (int, bool) {
			if r.Header.Get("Idempotency-Key") == "000001" {
				return http.StatusRequestEntityTooLarge, false
			}
			return 0, false
		})
		got, err := Run(t.Context(), Config{API: shop.start(t), CSV: write(t, many(4))}, io.Discard, io.Discard)
		if err == nil || errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "000001") {
			t.Errorf("error: got %v, want one that names the order", err)
		}
		if got.Placed != 3 || got.Failed != 1 {
			t.Errorf("got %+v, want 3 placed, 1 failed", got)
		}
	})
	t.Run("not the API", func(t *testing.T) {
		t.Parallel()
		shop := newShop()
		shop.setFault(func(*http.Request) (int, bool) { return http.StatusNotFound, false })
		_, err := Run(t.Context(), Config{API: shop.start(t), CSV: write(t, many(4)), InFlight: 1}, io.Discard, io.Discard)
		if client.StatusOf(err) != http.StatusNotFound {
			t.Errorf("got %v, want the 404", err)
		}
	})
}

func TestOrderOfSending(t *testing.T) {
	t.Parallel()
	shop := newShop()
	mustRun(t, Config{API: shop.start(t), CSV: write(t, many(50)), InFlight: 1})
	for i, key := range shop.sequence {
		if key != fmt.Sprintf("%06d", i) {
			t.Fatalf("place %d: got invoice %s", i, key)
		}
	}
}

// --speed moves event times to the run's start, scales them, and sends none before its time; the same start repeats the run.
func TestSpeed(t *testing.T) {
	t.Parallel()
	content := header +
		"1,A,x,1,2010-12-01 08:00:00,1,5.0,UK\n" +
		"2,A,x,1,2010-12-01 08:01:00,1,5.0,UK\n" +
		"3,A,x,1,2010-12-01 08:02:00,1,5.0,UK\n"
	shop := newShop()
	start := time.Now().UTC().Truncate(time.Second)
	cfg := Config{API: shop.start(t), CSV: write(t, content), Speed: "600", Start: start} // a minute is 100 ms
	if got, _ := mustRun(t, cfg); got.Placed != 3 {
		t.Fatalf("got %+v, want 3 placed", got)
	}
	for i := range 3 {
		key := fmt.Sprintf("%d@%s", i+1, start.Format(time.RFC3339Nano))
		want := start.Add(time.Duration(i) * 100 * time.Millisecond)
		if got := shop.sent[key].PlacedAt; !got.Equal(want) {
			t.Errorf("invoice %d: placed at %s, want %s", i+1, got, want)
		}
		if shop.stored[key].Before(want) {
			t.Errorf("invoice %d: came at %s, before its event time %s", i+1, shop.stored[key], want)
		}
	}
	if got, _ := mustRun(t, cfg); got.Placed != 0 || got.Duplicates != 3 {
		t.Errorf("the same start again: got %+v, want 3 duplicates", got)
	}
	cfg.Start = start.Add(-time.Hour)
	if got, _ := mustRun(t, cfg); got.Placed != 3 {
		t.Errorf("another start: got %+v, want 3 placed", got)
	}
}

func TestMadeUp(t *testing.T) {
	t.Parallel()
	shop := newShop()
	cfg := Config{API: shop.start(t), Rate: 4000, For: 500 * time.Millisecond, Seed: 7, Wait: true, Start: time.Now().Add(-time.Minute)}
	got, _ := mustRun(t, cfg)
	if got.Rows != 2000 || got.Invoices != 200 || got.Clicks != 1800 || got.Placed+got.Refused != 200 {
		t.Errorf("got %+v, want 200 orders and 1,800 clicks", got)
	}
	negative, precise := 0, 0
	for _, o := range shop.sent {
		price := o.Lines[0].UnitPrice
		if strings.HasPrefix(price, "-") {
			negative++
		} else if _, decimals, _ := strings.Cut(price, "."); len(decimals) == 3 {
			precise++
		}
	}
	if negative != 4 || precise != 4 || got.Refused != 8 {
		t.Errorf("%d negative and %d three-decimal prices, %d refused; want 4, 4, 8", negative, precise, got.Refused)
	}
	ids := map[string]bool{}
	for _, c := range shop.clicks {
		ids[c.ID] = true
		if c.Time.After(time.Now()) {
			t.Fatalf("click %s is dated ahead: %s", c.ID, c.Time)
		}
	}
	if len(ids) != 1800 {
		t.Errorf("%d different clicks, want 1,800", len(ids))
	}
	for sku, units := range shop.units {
		if units != madeStock {
			t.Errorf("%s: %d units, want %d", sku, units, madeStock)
		}
	}
	again, _ := mustRun(t, cfg)
	if again.Placed != 0 || again.Duplicates != got.Placed {
		t.Errorf("the same again: got %+v, want duplicates alone", again)
	}
}
