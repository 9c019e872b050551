package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/internal/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type client struct {
	t   *testing.T
	url string
}

func serve(t *testing.T, dir string, faults gateway.Faults) (*gateway.Gateway, client) {
	t.Helper()
	g, err := gateway.New(gateway.Config{Dir: dir, Faults: faults})
	if err != nil {
		t.Fatalf("new gateway: %v", err)
	}
	server := httptest.NewServer(g.Handler())
	t.Cleanup(func() {
		server.Client().CloseIdleConnections()
		server.Close()
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return g, client{t, server.URL}
}

func (c client) do(method, path, key, body string) (int, map[string]any) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out := map[string]any{}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil && err != io.EOF {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, out
}

const payment = `{"order_id":"o1","amount_minor":255,"currency":"GBP"}`

func ledgerLines(t *testing.T, dir string) []gateway.Entry {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "payments.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []gateway.Entry
	for line := range bytes.SplitSeq(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n")) {
		var e gateway.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("ledger line %q: %v", line, err)
		}
		entries = append(entries, e)
	}
	return entries
}

func TestAKeyCapturesOnceUnderConcurrency(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, c := serve(t, dir, gateway.Faults{})
	var wg sync.WaitGroup
	answers := make([]map[string]any, 50)
	for i := range answers {
		wg.Go(func() { _, answers[i] = c.do(http.MethodPost, "/v1/payments", "k1", payment) })
	}
	wg.Wait()
	for _, a := range answers {
		if a["status"] != "captured" || a["payment_id"] != answers[0]["payment_id"] {
			t.Fatalf("answers differ: %v and %v", a, answers[0])
		}
	}
	if lines := ledgerLines(t, dir); len(lines) != 1 || lines[0].Kind != gateway.Captured || lines[0].AmountMinor != 255 {
		t.Fatalf("ledger is %+v, want one capture of 255", lines)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	void := "/v1/payments/k1/void"
	charge := "/v1/payments"
	type step struct {
		path, key, body string
		code            int
		status          any
	}
	tests := map[string][]step{
		"same again":            {{charge, "k1", payment, 200, "captured"}, {charge, "k1", payment, 200, "captured"}},
		"other amount":          {{charge, "k1", payment, 200, "captured"}, {charge, "k1", strings.Replace(payment, "255", "256", 1), 422, 422.}},
		"other currency":        {{charge, "k1", payment, 200, "captured"}, {charge, "k1", strings.Replace(payment, "GBP", "EUR", 1), 422, 422.}},
		"nothing to pay":        {{charge, "k1", strings.Replace(payment, "255", "0", 1), 200, "captured"}},
		"voided, then asked":    {{charge, "k1", payment, 200, "captured"}, {void, "", "", 200, "voided"}, {charge, "k1", payment, 200, "voided"}},
		"voided twice":          {{void, "", "", 200, "voided"}, {void, "", "", 200, "voided"}},
		"void spends the key":   {{void, "", "", 200, "voided"}, {charge, "k1", payment, 200, "voided"}},
		"no key":                {{charge, "", payment, 400, 400.}},
		"negative":              {{charge, "k1", strings.Replace(payment, "255", "-1", 1), 422, 422.}},
		"a field is misspelt":   {{charge, "k1", strings.Replace(payment, "amount_minor", "amount", 1), 400, 400.}},
		"key longer than 255 B": {{charge, strings.Repeat("k", 256), payment, 400, 400.}},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c := serve(t, t.TempDir(), gateway.Faults{})
			for i, s := range steps {
				code, body := c.do(http.MethodPost, s.path, s.key, s.body)
				if code != s.code || body["status"] != s.status {
					t.Fatalf("step %d: %d %v, want %d %v", i, code, body, s.code, s.status)
				}
			}
		})
	}
}

func TestTheLedgerSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g, err := gateway.New(gateway.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := g.Charge(fmt.Sprint("k", i), gateway.Charge{OrderID: "o", AmountMinor: 1, Currency: "GBP"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.Void("k1"); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	// A kill in the middle of a write leaves half a line.
	path := filepath.Join(dir, "payments.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole, `{"at":"2026-01-01T00:00:00Z","kind":"capt`...), 0o600); err != nil {
		t.Fatal(err)
	}
	again, c := serve(t, dir, gateway.Faults{})
	if after, _ := os.ReadFile(path); !bytes.Equal(after, whole) {
		t.Fatalf("the half line is still there: %q", after[len(whole):])
	}
	for key, want := range map[string]gateway.Kind{"k0": gateway.Captured, "k1": gateway.Voided, "k2": gateway.Captured} {
		if p, ok := again.Payment(key); !ok || p.Status != want {
			t.Errorf("%s is %q after the start, want %q", key, p.Status, want)
		}
	}
	if _, err := again.Charge("k3", gateway.Charge{OrderID: "o", AmountMinor: 1, Currency: "GBP"}); err != nil {
		t.Fatal(err)
	}
	if lines := ledgerLines(t, dir); len(lines) != 5 {
		t.Fatalf("%d lines, want 5", len(lines))
	}
	if code, body := c.do(http.MethodGet, "/v1/payments?offset=3&limit=1", "", ""); code != 200 || body["total"] != 4. || len(body["items"].([]any)) != 1 {
		t.Fatalf("listing: %d %v", code, body)
	}
}

func TestADamagedLineIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "payments.jsonl"), []byte("{}\nnonsense\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := gateway.New(gateway.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Fatalf("error is %v, must name line 2", err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, c := serve(t, dir, gateway.Faults{})
	put := func(body string, want int) {
		t.Helper()
		if code, out := c.do(http.MethodPut, "/v1/faults", "", body); code != want {
			t.Fatalf("PUT faults %s: %d %v, want %d", body, code, out, want)
		}
	}
	put(`{"error_rate":1}`, 200)
	if code, _ := c.do(http.MethodPost, "/v1/payments", "k1", payment); code != 500 {
		t.Fatalf("error_rate 1: answered %d", code)
	}
	if code, _ := c.do(http.MethodGet, "/v1/payments/k1", "", ""); code != 404 {
		t.Fatalf("error_rate 1: something was done: %d", code)
	}
	put(`{"error_rate":0,"error_after_capture_rate":1}`, 200)
	if code, _ := c.do(http.MethodPost, "/v1/payments", "k1", payment); code != 500 {
		t.Fatalf("error_after_capture_rate 1: answered %d", code)
	}
	put(`{"error_after_capture_rate":0,"decline_rate":1,"delay":"20ms"}`, 200)
	if code, body := c.do(http.MethodPost, "/v1/payments", "k1", payment); code != 200 || body["status"] != "captured" {
		t.Fatalf("the lost capture is answered %d %v", code, body)
	}
	start := time.Now()
	if _, body := c.do(http.MethodPost, "/v1/payments", "k2", payment); body["status"] != "declined" {
		t.Fatalf("decline_rate 1: %v", body)
	}
	if took := time.Since(start); took < 20*time.Millisecond {
		t.Errorf("answered after %s, must take 20ms", took)
	}
	put(`{"decline_rate":0,"delay":"0s"}`, 200)
	if _, body := c.do(http.MethodPost, "/v1/payments", "k2", payment); body["status"] != "declined" {
		t.Fatalf("a decline is not remembered: %v", body)
	}
	put(`{"decline_rate":1.5}`, 422)
	put(`{"delay":"soon"}`, 400)
	if len(ledgerLines(t, dir)) != 2 {
		t.Fatalf("ledger is %+v", ledgerLines(t, dir))
	}
	if _, body := c.do(http.MethodGet, "/v1/faults", "", ""); body["delay"] != "0s" || body["decline_rate"] != 0. {
		t.Fatalf("faults are %v", body)
	}
}
