package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/pkg/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg Config, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cfg.URL = server.URL
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "localhost:8080", "ftp://x", "http://", "http://a b/"} {
		if _, err := New(Config{URL: url}); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: got %v, want a configuration error", url, err)
		}
	}
}

// Every call goes where the API has it, with what it is given.
func TestCalls(t *testing.T) {
	t.Parallel()
	click, err := events.New("/test", events.TypePageClicked, "ann", time.Unix(0, 0), events.PageClicked{User: "ann", Page: "/"})
	if err != nil {
		t.Fatal(err)
	}
	for want, call := range map[string]func(ctx context.Context, c *Client) error{
		`POST /v1/orders key "k" {"currency":"GBP","lines":[{"sku":"A","quantity":-1,"unit_price":"-0.5"}]}`: func(ctx context.Context, c *Client) error {
			_, err := c.PlaceOrder(ctx, "k", NewOrder{Currency: "GBP", Lines: []Line{{"A", -1, "-0.5"}}})
			return err
		},
		`GET /v1/orders/a%2Fb key "" `:                        func(ctx context.Context, c *Client) error { _, err := c.Order(ctx, "a/b"); return err },
		`GET /v1/orders/a?as_of=2 key "" `:                    func(ctx context.Context, c *Client) error { _, err := c.OrderAsOf(ctx, "a", "2"); return err },
		`POST /v1/projections/a/rebuild key "" {"park":true}`: func(ctx context.Context, c *Client) error { _, err := c.RebuildProjection(ctx, "a", true); return err },
		`POST /v1/projections/a/compare key "" {"version":2}`: func(ctx context.Context, c *Client) error { _, err := c.CompareProjection(ctx, "a", 2); return err },
		`POST /v1/projections/a/swap key "" {"back":true,"dry_run":true}`: func(ctx context.Context, c *Client) error {
			_, err := c.SwapProjection(ctx, "a", ProjectionSwap{Back: true, DryRun: true})
			return err
		},
		`DELETE /v1/projections/a/versions/2 key "" `: func(ctx context.Context, c *Client) error { return c.DropProjection(ctx, "a", 2) },
		`GET /v1/projections key "" `:                 func(ctx context.Context, c *Client) error { _, err := c.Projections(ctx); return err },
		`GET /v1/orders/a/events key "" `:             func(ctx context.Context, c *Client) error { _, err := c.OrderEvents(ctx, "a"); return err },
		`POST /v1/orders/a/cancel key "" {}`:          func(ctx context.Context, c *Client) error { _, err := c.CancelOrder(ctx, "a", ""); return err },
		`GET /v1/stock/BANK%20CHARGES key "" `:        func(ctx context.Context, c *Client) error { _, err := c.Stock(ctx, "BANK CHARGES"); return err },
		`GET /v1/stock/%2E%2E key "" `:                func(ctx context.Context, c *Client) error { _, err := c.Stock(ctx, ".."); return err },
		`POST /v1/stock/A/receipts key "r" {"quantity":5}`: func(ctx context.Context, c *Client) error {
			_, err := c.Receive(ctx, "A", "r", 5)
			return err
		},
		`GET /v1/projections/orders key "" `: func(ctx context.Context, c *Client) error { _, err := c.Projection(ctx, ProjectionOrders); return err },
		`GET /v1/system key "" `:             func(ctx context.Context, c *Client) error { _, err := c.System(ctx); return err },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var got string
			c := start(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = fmt.Sprintf("%s %s key %q %s", r.Method, r.URL.RequestURI(), r.Header.Get("Idempotency-Key"), body)
				_, _ = io.WriteString(w, "{}")
			})
			if err := call(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %s", got)
			}
		})
	}
	t.Run("clicks", func(t *testing.T) {
		t.Parallel()
		c := start(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			evs, _, err := events.DecodeBatch(body)
			if err != nil || r.Header.Get("Content-Type") != events.ContentTypeBatch {
				http.Error(w, "{}", http.StatusBadRequest)
				return
			}
			_, _ = fmt.Fprintf(w, `{"accepted":%d}`, len(evs))
		})
		if n, err := c.PostClicks(t.Context(), []events.Event{click, click}); n != 2 || err != nil {
			t.Errorf("got %d, %v, want 2 accepted", n, err)
		}
	})
}

// What is safe to repeat is repeated, what is not is not.
func TestRepeating(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key       string
		status    int // of the first answer; 1: none
		calls     int64
		uncertain bool
		fails     int // status of the error; -1: another error
	}{
		"hung up, with a key":       {"k", 1, 2, true, 0},
		"hung up, without":          {"", 1, 1, false, -1},
		"500, with a key":           {"k", 500, 2, true, 0},
		"429: certainly not stored": {"k", 429, 2, false, 0},
		"429, without a key":        {"", 429, 1, false, 429},
		"422":                       {"k", 422, 1, false, 422},
		"409":                       {"k", 409, 1, false, 409},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			var keys [2]string
			client := start(t, Config{Patience: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
				n := calls.Add(1)
				keys[min(n-1, 1)] = r.Header.Get("Idempotency-Key")
				if n > 1 {
					_, _ = io.WriteString(w, `{"id":"a"}`)
					return
				}
				if c.status == 1 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(c.status)
			})
			p, err := client.PlaceOrder(t.Context(), c.key, NewOrder{})
			if calls.Load() != c.calls {
				t.Errorf("%d calls, want %d", calls.Load(), c.calls)
			}
			if (c.fails == 0) != (err == nil) || c.fails > 0 && StatusOf(err) != c.fails {
				t.Errorf("error %v, want status %d", err, c.fails)
			}
			if err == nil && (p.Uncertain != c.uncertain || p.ID != "a" || keys[0] != keys[1]) {
				t.Errorf("got %+v with keys %v, want uncertain %t and one key", p, keys, c.uncertain)
			}
		})
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	var calls, told atomic.Int64
	cfg := Config{Patience: 300 * time.Millisecond, OnRetry: func(err error, _ time.Duration) {
		if StatusOf(err) == http.StatusServiceUnavailable {
			told.Add(1)
		}
	}}
	c := start(t, cfg, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if _, err := c.System(t.Context()); StatusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("got %v, want the last answer", err)
	}
	if calls.Load() < 2 || told.Load() != calls.Load()-1 {
		t.Errorf("%d calls, told %d times; want several, and each one after the first told", calls.Load(), told.Load())
	}
}

// Waiting for an API that is down ends with the context.
func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := start(t, Config{Patience: Forever}, func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if _, err := c.System(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}

func TestWhatIsNotTheAPI(t *testing.T) {
	t.Parallel()
	c := start(t, Config{Patience: Forever}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	if _, err := c.System(t.Context()); !errors.Is(err, ErrAnswer) {
		t.Errorf("got %v, want an answer that can't be read", err)
	}
	if _, err := c.PlaceOrder(t.Context(), "a\nb", NewOrder{}); !errors.Is(err, ErrKey) {
		t.Errorf("got %v, want a key that can't be sent", err)
	}
}

func TestProblemSaysEverything(t *testing.T) {
	t.Parallel()
	c := start(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"detail":"the order is not valid","errors":[{"location":"body.lines[0].sku","message":"is empty"}]}`)
	})
	_, err := c.PlaceOrder(t.Context(), "k", NewOrder{})
	for _, part := range []string{"422", "the order is not valid", "body.lines[0].sku: is empty"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "86400": time.Minute, "-1": 0, "soon": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0,
	} {
		if got := parseRetryAfter(value); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
	if got := parseRetryAfter(time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)); got < 15*time.Second || got > 20*time.Second {
		t.Errorf("a date: got %s, want about 20 s", got)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	c := start(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("status") != StatusRejected || q.Get("limit") != "2" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		pages := map[string]string{"": `{"items":[{"id":"1"},{"id":"2"}],"next_cursor":"b"}`, "b": `{"items":[{"id":"3"}]}`}
		_, _ = io.WriteString(w, pages[q.Get("cursor")])
	})
	orders := c.Orders(t.Context(), OrderFilter{Status: StatusRejected, PageSize: 2})
	for range 2 { // the same listing can be walked again
		var got []string
		for o, err := range orders {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, o.ID)
		}
		if want := []string{"1", "2", "3"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	for _, err := range c.Orders(t.Context(), OrderFilter{}) {
		if StatusOf(err) != http.StatusBadRequest {
			t.Errorf("got %v, want the error once", err)
		}
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	want := []LedgerEntry{{Kind: LedgerCaptured, Key: "a", Amount: 255, Currency: "GBP"}, {Kind: LedgerVoided, Key: "a"}}
	torn := false
	c := start(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		for _, e := range want {
			_ = json.NewEncoder(w).Encode(e)
		}
		if torn {
			_, _ = io.WriteString(w, `{"kind":`)
		}
	})
	read := func() (got []LedgerEntry, err error) {
		for e, err := range c.Ledger(t.Context()) {
			if err != nil {
				return got, err
			}
			got = append(got, e)
		}
		return got, nil
	}
	if got, err := read(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	torn = true
	if got, err := read(); err == nil || len(got) != 2 {
		t.Errorf("half a line: got %+v, %v, want an error after two entries", got, err)
	}
	for range c.Ledger(t.Context()) {
		break // whoever stops early is not called again
	}
}
