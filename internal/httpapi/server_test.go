package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// switchable is a part whose readiness a test decides.
type switchable struct{ ready chan struct{} }

func (s switchable) Ready() <-chan struct{}        { return s.ready }
func (s switchable) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func serve(t *testing.T, parts ...run.Part) *httpapi.Server {
	t.Helper()
	return start(t, httpapi.Config{Addr: "127.0.0.1:0", Version: "test", ReadyParts: func() []run.Part { return parts }})
}

func start(t *testing.T, cfg httpapi.Config) *httpapi.Server {
	t.Helper()
	s, err := httpapi.Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func do(t *testing.T, method, url string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

func TestHealthBeforeAndAfterOpen(t *testing.T) {
	t.Parallel()
	part := switchable{ready: make(chan struct{})}
	s := serve(t, run.Part{Name: "orders", Component: part})
	type out struct{}
	var calls atomic.Int32
	huma.Get(s.API(), "/v1/thing", func(context.Context, *struct{}) (*out, error) { calls.Add(1); return &out{}, nil },
		func(o *huma.Operation) { o.Security = access.AnyToken() })

	if status, _, _ := do(t, http.MethodGet, s.URL()+"/livez", nil); status != http.StatusOK {
		t.Errorf("/livez: %d", status)
	}
	if status, _, body := do(t, http.MethodGet, s.URL()+"/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "orders") {
		t.Errorf("/readyz while orders is not ready: %d %s", status, body)
	}
	status, header, body := do(t, http.MethodGet, s.URL()+"/v1/thing", nil)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || header.Get("Content-Type") != "application/problem+json" || calls.Load() != 0 {
		t.Errorf("before Open: %d %v %s", status, header, body)
	}
	s.Open()
	close(part.ready)
	if status, _, _ := do(t, http.MethodGet, s.URL()+"/readyz", nil); status != http.StatusOK {
		t.Errorf("/readyz: %d", status)
	}
	if status, header, _ := do(t, http.MethodGet, s.URL()+"/v1/thing", nil); status/100 != 2 || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("after Open: %d %v", status, header)
	}
	_, _, body = do(t, http.MethodGet, s.URL()+"/openapi.json", nil)
	var doc struct {
		OpenAPI string `json:"openapi"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("openapi.json: %v %.100s", err, body)
	}
}

func TestPagesOfOthersCantPost(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Handle("POST /v1/thing", access.AnyToken(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	s.Open()
	if status, _, _ := do(t, http.MethodPost, s.URL()+"/v1/thing", http.Header{"Sec-Fetch-Site": {"cross-site"}}); status != http.StatusForbidden {
		t.Errorf("a cross-site POST: %d", status)
	}
	if status, _, _ := do(t, http.MethodPost, s.URL()+"/v1/thing", nil); status != http.StatusOK {
		t.Errorf("a POST of no browser: %d", status)
	}
}

func TestLoopbackOnly(t *testing.T) {
	t.Parallel()
	h := httpapi.LoopbackOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for addr, want := range map[string]int{"127.0.0.1:4000": 200, "[::1]:4000": 200, "192.0.2.7:4000": 403, "nonsense": 403} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/system", nil)
		r.RemoteAddr = addr
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("from %s: %d, want %d", addr, w.Code, want)
		}
	}
}

// TestStopDoesNotWaitForUnusedConnections: clients open connections ahead of need.
func TestStopDoesNotWaitForUnusedConnections(t *testing.T) {
	t.Parallel()
	s, err := httpapi.Listen(t.Context(), httpapi.Config{Addr: "127.0.0.1:0", ReadyParts: func() []run.Part { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	do(t, http.MethodGet, s.URL()+"/livez", nil) // the server has accepted what came before
	began := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("stopped after %s", took)
	}
}

// sick is ready and does not do its work.
type sick struct{ err error }

func (s sick) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (s sick) Ready() <-chan struct{}        { return run.Closed() }
func (s sick) Healthy() error                { return s.err }

// What was ready once and stands still is not ready: whoever asks is told why, also where the part was made late.
func TestReadyzSaysWhatStandsStill(t *testing.T) {
	t.Parallel()
	boot := run.NewBoot(func(context.Context) (run.Component, error) { return sick{errors.New("the log is another one")}, nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- boot.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-boot.Ready()
	for _, c := range []struct {
		part run.Component
		want int
	}{{sick{}, http.StatusOK}, {sick{errors.New("the log is another one")}, http.StatusServiceUnavailable}, {boot, http.StatusServiceUnavailable}} {
		s := serve(t, run.Part{Name: "part", Component: c.part})
		s.Open()
		status, _, body := do(t, http.MethodGet, s.URL()+"/readyz", nil)
		if status != c.want || c.want != http.StatusOK && !strings.Contains(body, "the log is another one") {
			t.Errorf("%d %s, want %d", status, body, c.want)
		}
	}
}

// TestAStoppingServerSaysSoAndServes: between /readyz saying no and the end, requests are answered still, on connections that end with them.
func TestAStoppingServerSaysSoAndServes(t *testing.T) {
	t.Parallel()
	stop, stopped := make(chan struct{}), make(chan error, 1)
	s, err := httpapi.Listen(t.Context(), httpapi.Config{Addr: "127.0.0.1:0", ReadyParts: func() []run.Part { return nil }, StopDelay: func() time.Duration {
		close(stop)
		return time.Second
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("GET /hello", access.AnyToken(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { httpapi.JSON(w, "hello") }))
	s.Open()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { stopped <- s.Run(ctx) }()
	if status, _, _ := do(t, http.MethodGet, s.URL()+"/readyz", nil); status != http.StatusOK {
		t.Errorf("before: %d", status)
	}
	cancel()
	<-stop
	began := time.Now()
	if status, _, body := do(t, http.MethodGet, s.URL()+"/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "stopping") {
		t.Errorf("while it stops: %d %s", status, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/hello", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("a request while it stops: %d, its connection ends with it: %t", res.StatusCode, res.Close)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := net.DialTimeout("tcp", strings.TrimPrefix(s.URL(), "http://"), time.Second); err == nil {
		t.Error("it listens still")
	}
}
