package load

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop answers as the real API does, from a map: orders by idempotency key, receipts by theirs. With a fault it fails before or after it has done
// its work.
type shop struct {
	mu       sync.Mutex
	orders   map[string]client.Order // by key
	bodies   map[string]string       // by key
	sequence []string                // keys, as they came
	sent     map[string]client.NewOrder
	stored   map[string]time.Time
	units    map[string]int64
	receipts map[string]bool
	clicks   []events.Event
	pending  int // reads of an order before it is confirmed
	nats     string
	windows  []client.Projection // of analytics: one a look, the last one again and again

	fault func(r *http.Request) (status int, after bool) // status 0: none; 1: hang up; after: the work is done first
}

func newShop() *shop {
	return &shop{
		orders: map[string]client.Order{}, bodies: map[string]string{}, sent: map[string]client.NewOrder{}, stored: map[string]time.Time{},
		units: map[string]int64{}, receipts: map[string]bool{},
	}
}

func (s *shop) start(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	status, after := 0, false
	if fault != nil {
		status, after = fault(r)
	}
	if status != 0 && !after {
		fail(w, status)
		return
	}
	record := httptest.NewRecorder()
	s.serve(record, r, body)
	if status != 0 {
		fail(w, status)
		return
	}
	maps.Copy(w.Header(), record.Header())
	w.WriteHeader(record.Code)
	_, _ = w.Write(record.Body.Bytes())
}

func fail(w http.ResponseWriter, status int) {
	if status == 1 {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
		return
	}
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "0")
	}
	http.Error(w, `{"detail":"a fault of the test"}`, status)
}

func (s *shop) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch path := r.URL.EscapedPath(); {
	case r.Method == http.MethodPost && path == "/v1/orders":
		s.place(w, r.Header.Get("Idempotency-Key"), body)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/receipts"):
		s.receive(w, r, body)
	case r.Method == http.MethodPost && path == "/v1/clicks":
		evs, errs, err := events.DecodeBatch(body)
		for _, e := range errs {
			if e != nil {
				err = e
			}
		}
		if err != nil {
			http.Error(w, `{}`, http.StatusUnprocessableEntity)
			return
		}
		s.clicks = append(s.clicks, evs...)
		answer(w, http.StatusAccepted, map[string]int{"accepted": len(evs)})
	case path == "/v1/system" && s.nats != "":
		answer(w, http.StatusOK, map[string]string{"nats_url": s.nats})
	case path == "/v1/projections/windows" && len(s.windows) > 0:
		answer(w, http.StatusOK, s.windows[0])
		if len(s.windows) > 1 {
			s.windows = s.windows[1:]
		}
	case strings.HasSuffix(path, "/events"):
		key := strings.TrimSuffix(strings.TrimPrefix(path, "/v1/orders/id-"), "/events")
		answer(w, http.StatusOK, map[string]any{"items": []client.OrderEvent{{Version: 1, StoredAt: s.stored[key]}}})
	case strings.HasPrefix(path, "/v1/orders/id-"):
		s.read(w, strings.TrimPrefix(path, "/v1/orders/id-"))
	default:
		http.NotFound(w, r)
	}
}

func (s *shop) read(w http.ResponseWriter, key string) {
	o, ok := s.orders[key]
	if !ok {
		http.Error(w, `{}`, http.StatusNotFound)
		return
	}
	if !o.Ended() {
		s.pending--
		if s.pending < 0 {
			o.Status = client.StatusConfirmed
			s.orders[key] = o
		}
	}
	answer(w, http.StatusOK, o)
}

func (s *shop) place(w http.ResponseWriter, key string, body []byte) {
	if before, ok := s.bodies[key]; ok {
		if before != string(body) {
			http.Error(w, `{"detail":"other body"}`, http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Idempotency-Replayed", "true")
		answer(w, http.StatusAccepted, s.orders[key])
		return
	}
	var o client.NewOrder
	if err := json.Unmarshal(body, &o); err != nil {
		http.Error(w, `{}`, http.StatusBadRequest)
		return
	}
	s.sent[key] = o
	for _, l := range o.Lines {
		if _, err := events.ParseMinor(l.UnitPrice); err != nil || l.Quantity < 1 || l.SKU == "" {
			http.Error(w, `{"detail":"a bad line"}`, http.StatusUnprocessableEntity)
			return
		}
	}
	s.bodies[key] = string(body)
	s.sequence = append(s.sequence, key)
	s.stored[key] = time.Now()
	s.orders[key] = client.Order{ID: "id-" + key, Status: client.StatusPlaced}
	answer(w, http.StatusAccepted, s.orders[key])
}

func (s *shop) receive(w http.ResponseWriter, r *http.Request, body []byte) {
	sku := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v1/stock/"), "/receipts")
	var in struct{ Quantity int64 }
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, `{}`, http.StatusBadRequest)
		return
	}
	if key := r.Header.Get("Idempotency-Key"); !s.receipts[key] {
		s.receipts[key] = true
		s.units[sku] += in.Quantity
	}
	answer(w, http.StatusCreated, map[string]any{"sku": sku, "on_hand": s.units[sku]})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *shop) setFault(fault func(r *http.Request) (int, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// closedPort is an address that refuses connections, and can be listened on later.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return fmt.Sprint(l.Addr())
}
