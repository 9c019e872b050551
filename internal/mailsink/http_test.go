package mailsink_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/internal/mailsink"
)

type outbox struct {
	Total int
	Items []struct {
		ID        string
		MessageID string `json:"message_id"`
		To        []string
	}
}

func call(t *testing.T, h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestOutboxPages(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{})
	for i := range 5 {
		if err := send(sink.Addr(), fmt.Sprintf("To%d@b.example", i%2), mailOf(fmt.Sprintf("m%d@x", i), "hi")); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		query string
		total int
		ids   string
	}{
		{"", 5, "1 2 3 4 5"},
		{"?limit=2", 5, "1 2"},
		{"?limit=2&offset=3", 5, "4 5"},
		{"?offset=9", 5, ""},
		{"?order=desc&limit=2", 5, "5 4"},
		{"?to=to1@b.example", 2, "2 4"},
		{"?to=to0@B.example&order=desc&offset=1", 3, "3 1"},
		{"?to=nobody@b.example", 0, ""},
	} {
		t.Run(tc.query, func(t *testing.T) {
			w := call(t, sink.Handler(), http.MethodGet, "/v1/outbox"+tc.query, "")
			var got outbox
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
				t.Fatalf("answer %d %s: %v", w.Code, w.Body, err)
			}
			ids := make([]string, len(got.Items))
			for i, m := range got.Items {
				ids[i] = m.ID
			}
			if got.Total != tc.total || strings.Join(ids, " ") != tc.ids {
				t.Errorf("total %d, ids %v; want %d, %s", got.Total, ids, tc.total, tc.ids)
			}
		})
	}
	if !strings.Contains(call(t, sink.Handler(), http.MethodGet, "/v1/outbox?offset=9", "").Body.String(), `"items":[]`) {
		t.Error("an empty page must be an empty list, not null")
	}
}

func TestFaultsByHTTP(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{})
	h := sink.Handler()
	w := call(t, h, http.MethodPut, "/v1/outbox/faults", `{"temporary_rate":0.5,"delay":"100ms","refused_text":"spam"}`)
	const want = `{"temporary_rate":0.5,"permanent_rate":0,"delay":"100ms","refused_text":"spam"}`
	if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != want {
		t.Fatalf("answer %d %s", w.Code, w.Body)
	}
	if w := call(t, h, http.MethodGet, "/v1/outbox/faults", ""); strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("faults are %s", w.Body)
	}
	for _, bad := range []string{`{"temporary_rate":2}`, `{"delay":"soon"}`, `{"delay":"-1s"}`, `{"temporary_rate":0.7,"permanent_rate":0.7}`} {
		w := call(t, h, http.MethodPut, "/v1/outbox/faults", bad)
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Header().Get("Content-Type"), "problem+json") {
			t.Errorf("%s is answered %d %s", bad, w.Code, w.Header().Get("Content-Type"))
		}
	}
	if got := sink.Faults(); got.TemporaryRate != 0.5 || got.PermanentRate != 0 {
		t.Errorf("a refused change left %+v", got)
	}
}

// The books say what was tried, and nothing that was written to anybody.
func TestLedgerByHTTP(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{})
	for range 2 {
		if err := send(sink.Addr(), "a@b.example", mailOf("one@x", "secret")); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.SetFaults(mailsink.Faults{PermanentRate: 1}); err != nil {
		t.Fatal(err)
	}
	requireCode(t, send(sink.Addr(), "a@b.example", mailOf("two@x", "secret")), 550)
	w := call(t, sink.Handler(), http.MethodGet, "/v1/outbox/ledger", "")
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	if w.Code != http.StatusOK || len(lines) != 3 || strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), "b.example") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for i, want := range []string{`"kind":"accepted"`, `"kind":"repeated"`, `"kind":"refused"`} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %s, want %s", i+1, lines[i], want)
		}
	}
}
