package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// page is an answer over real HTTP.
type page struct {
	status int
	header http.Header
	body   map[string]any
}

func serve(t *testing.T, in *instance) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	in.Routes(humago.New(mux, huma.DefaultConfig("test", "1")))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func call(t *testing.T, method, address, key, body string) page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // a redirect would be a defect, not to be followed
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	p := page{status: resp.StatusCode, header: resp.Header}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&p.body); err != nil {
		t.Fatalf("%s %s answered %d %q", method, address, p.status, data)
	}
	return p
}

func TestStockOverHTTP(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	server := serve(t, in)
	skus := []string{"85123A", "BANK CHARGES", "A/B", "/", "//", "..", ".", "a%2Fb", "50% off?#&+", "*.>", "Ünï→漢字", strings.Repeat("→", 64), "receipts", `"q"\`}
	for i, sku := range skus {
		base := server.URL + "/v1/stock/" + url.PathEscape(sku)
		if sku == "." || sku == ".." { // PathEscape leaves dots, and a path may not end in them
			base = server.URL + "/v1/stock/" + strings.ReplaceAll(sku, ".", "%2E")
		}
		if p := call(t, "GET", base, "", ""); p.status != 404 || p.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q before its receipt: %+v", sku, p)
		}
		p := call(t, "POST", base+"/receipts", "k", fmt.Sprintf(`{"quantity":%d}`, i+1))
		if p.status != 201 || p.body["sku"] != sku || p.body["on_hand"] != float64(i+1) || !events.ValidID(p.body["receipt_id"].(string)) {
			t.Errorf("receipt of %q: %+v", sku, p)
		}
		again := call(t, "POST", base+"/receipts", "k", fmt.Sprintf(`{"quantity":%d}`, i+1))
		if again.status != 200 || again.header.Get("Idempotency-Replayed") != "true" || again.body["on_hand"] != float64(i+1) || again.body["receipt_id"] != p.body["receipt_id"] {
			t.Errorf("receipt of %q again: %+v", sku, again)
		}
		if other := call(t, "POST", base+"/receipts", "k", `{"quantity":999}`); other.status != 422 {
			t.Errorf("receipt of %q with another quantity: %+v", sku, other)
		}
		if p := call(t, "GET", base, "", ""); p.status != 200 || p.body["available"] != float64(i+1) || p.body["reserved"] != 0.0 {
			t.Errorf("stock of %q: %+v", sku, p)
		}
	}
	in.deliver(delivery(t, events.TypeOrderPlaced, "o", 1, line("A/B", 2)))
	if p := call(t, "GET", server.URL+"/v1/stock/A%2FB", "", ""); p.body["on_hand"] != 3.0 || p.body["reserved"] != 2.0 || p.body["available"] != 1.0 {
		t.Errorf("after an order: %+v", p)
	}

	var listed []string
	for cursor, pages := "", 0; ; pages++ {
		p := call(t, "GET", server.URL+"/v1/stock?limit=3&cursor="+url.QueryEscape(cursor), "", "")
		items, _ := p.body["items"].([]any)
		for _, item := range items {
			listed = append(listed, item.(map[string]any)["sku"].(string))
		}
		var more bool
		if cursor, more = p.body["next_cursor"].(string); !more {
			break
		}
		if pages > len(skus) {
			t.Fatal("the listing does not end")
		}
	}
	slices.Sort(skus)
	if !slices.Equal(listed, skus) {
		t.Errorf("listed %q\nwant   %q", listed, skus)
	}
}

func TestRefusedOverHTTP(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	server := serve(t, in)
	for name, test := range map[string]struct{ method, path, body, names string }{
		"SKU too long":       {"GET", "/v1/stock/" + strings.Repeat("x", 65), "", "sku"},
		"SKU not printable":  {"GET", "/v1/stock/a%00b", "", "sku"},
		"SKU with a newline": {"POST", "/v1/stock/a%0Ab/receipts", `{"quantity":1}`, "sku"},
		"SKU no UTF-8":       {"POST", "/v1/stock/%FF/receipts", `{"quantity":1}`, "sku"},
		"quantity 0":         {"POST", "/v1/stock/A/receipts", `{"quantity":0}`, "quantity"},
		"quantity too large": {"POST", "/v1/stock/A/receipts", `{"quantity":1000000001}`, "quantity"},
		"quantity missing":   {"POST", "/v1/stock/A/receipts", `{}`, "quantity"},
		"quantity broken":    {"POST", "/v1/stock/A/receipts", `{"quantity":1.5}`, "quantity"},
		"cursor":             {"GET", "/v1/stock?cursor=a.b", "", "cursor"},
		"limit":              {"GET", "/v1/stock?limit=1001", "", "limit"},
	} {
		p := call(t, test.method, server.URL+test.path, "", test.body)
		if p.status != 422 || p.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(fmt.Sprint(p.body), test.names) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if log, _ := s.read(); len(log) != 0 {
		t.Errorf("stored %+v", log)
	}
}

func TestNotServingBeforeItHasRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	server := serve(t, s.prepare(Config{}))
	for _, path := range []string{"/v1/stock", "/v1/stock/A", "/v1/projections/stock"} {
		if p := call(t, "GET", server.URL+path, "", ""); p.status != 503 {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

func TestReceiptsAreAddedOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	servers := []*httptest.Server{serve(t, s.start(Config{})), serve(t, s.start(Config{BatchFrom: 2}))}
	var created, replayed, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		quantity := 5 + i/15 // the last five are of another quantity: whichever is first wins
		wg.Go(func() {
			switch p := call(t, "POST", servers[i%2].URL+"/v1/stock/A/receipts", "key", fmt.Sprintf(`{"quantity":%d}`, quantity)); p.status {
			case 201:
				created.Add(1)
			case 200:
				replayed.Add(1)
			case 422:
				refused.Add(1)
			default:
				t.Errorf("answered %+v", p)
			}
		})
	}
	wg.Wait()
	log, _ := s.read()
	if len(log) != 1 || created.Load() != 1 || refused.Load() != 5 && refused.Load() != 15 {
		t.Errorf("%d receipts stored, %d created, %d replayed, %d refused", len(log), created.Load(), replayed.Load(), refused.Load())
	}
	for range 2 { // without a key each is a receipt of its own
		if p := call(t, "POST", servers[0].URL+"/v1/stock/B/receipts", "", `{"quantity":1}`); p.status != 201 {
			t.Errorf("answered %+v", p)
		}
	}
	if p := call(t, "GET", servers[0].URL+"/v1/stock/B", "", ""); p.body["on_hand"] != 2.0 {
		t.Errorf("stock %+v", p)
	}
}

func TestProjectionDigest(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	server := serve(t, in)
	in.receive("b", 5)
	in.receive("a", 7)
	in.deliver(delivery(t, events.TypeOrderPlaced, "o", 1, line("b", 2)))
	p := call(t, "GET", server.URL+"/v1/projections/stock", "", "")
	const want = "20b5fe32ec4f73ce1bb816ae5fbda6f6fa0f82b0629262c9870ea0eb572606bc" // printf 'a|7|0\nb|5|2\n' | sha256sum
	if p.body["count"] != 2.0 || fmt.Sprint(p.body["position"]) != "map[STOCK:3]" || p.body["name"] != "stock" || p.body["digest"] != want {
		t.Errorf("projection %+v", p)
	}
}
