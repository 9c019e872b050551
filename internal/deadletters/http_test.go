package deadletters

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// ask sends a request.
func (o *office) ask(method, path, body string) (int, map[string]any) {
	o.Helper()
	mux := http.NewServeMux()
	o.Routes(api(mux))
	r := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		o.Fatalf("%s %s: %s: %v", method, path, w.Body, err)
	}
	if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
		o.Errorf("%s %s: %d is no problem: %v", method, path, w.Code, w.Header())
	}
	return w.Code, v
}

func api(mux *http.ServeMux) huma.API {
	config := huma.DefaultConfig("test", "0")
	config.CreateHooks = nil
	return humago.New(mux, config)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	a := o.park(events.GroupNotify, "o1")
	b := o.park(events.GroupNotify, "o2")
	o.park(events.GroupInventory, "o1", because(deadletter.ReasonSchema, "f2", "no sku"))
	for _, tc := range []struct {
		name, method, path, body string
		want                     int
		has                      string
	}{
		{"list", "GET", "", "", 200, `"id":"` + a.ID},
		{"filter", "GET", "?group=inventory", "", 200, `"fingerprint":"f2"`},
		{"a misspelt group", "GET", "?group=notfy", "", 422, "they are"},
		{"a page", "GET", "?limit=1", "", 200, `"next_cursor":"1"`},
		{"the last page", "GET", "?limit=2&cursor=2", "", 200, `"items":[{`},
		{"groups", "GET", "/groups", "", 200, `"count":2`},
		{"one", "GET", "/" + a.ID, "", 200, `"payload":{`},
		{"nothing", "GET", "/notify:ORDERS:99", "", 404, "not found"},
		{"note", "POST", "/" + a.ID + "/notes", `{"by":"ann","note":"asked"}`, 200, `"note":"asked"`},
		{"a note of nobody", "POST", "/" + a.ID + "/notes", `{"by":" ","note":"asked"}`, 422, "by"},
		{"edit", "PUT", "/" + a.ID + "/payload", `{"by":"ann","why":"typo","patch":[{"op":"add","path":"/reason","value":"r"}]}`, 200, `"edited":true`},
		{"edit all of it", "PUT", "/" + a.ID + "/payload", `{"by":"ann","why":"typo","payload":{"order_id":"o1","customer_id":"c"}}`, 200, `"edited":true`},
		{"edit against the schema", "PUT", "/" + a.ID + "/payload", `{"by":"ann","why":"typo","payload":{"order_id":1}}`, 422, "order_id"},
		{"edit both ways", "PUT", "/" + a.ID + "/payload", `{"by":"ann","why":"typo","payload":{},"patch":[]}`, 422, "either"},
		{"dry run", "POST", "/jobs", `{"kind":"replay","by":"ann","why":"w","dry_run":true,"filter":{"group":"notify"}}`, 200, `"count":2`},
		{"everything by oversight", "POST", "/jobs", `{"kind":"discard","by":"ann","why":"w"}`, 422, "all are meant"},
		{"a kind that is none", "POST", "/jobs", `{"kind":"eat","by":"ann","why":"w","all":true}`, 422, "kind"},
		{"no reason", "POST", "/jobs", `{"kind":"replay","by":"ann","all":true}`, 422, "why"},
		{"replay", "POST", "/jobs", `{"kind":"replay","by":"ann","why":"w","ids":["` + b.ID + `"]}`, 202, `"state":"running"`},
		{"jobs", "GET", "/jobs?group=notify", "", 200, `"total":1`},
		{"no job", "GET", "/jobs/x", "", 404, "not found"},
	} {
		status, body := o.ask(tc.method, root+tc.path, tc.body)
		text, _ := json.Marshal(body)
		if status != tc.want || !strings.Contains(string(text), strings.ReplaceAll(tc.has, "<", `\u003c`)) {
			t.Errorf("%s: %d %s, want %d with %s", tc.name, status, text, tc.want, tc.has)
		}
	}
	jobs, err := o.Jobs(t.Context(), "")
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%+v, %v", jobs, err)
	}
	if status, body := o.ask("GET", root+"/jobs/"+jobs[0].ID, ""); status != 200 || body["canary"] != true || body["kind"] != "replay" {
		t.Errorf("show the job: %d %v", status, body)
	}
	if status, body := o.ask("POST", root+"/jobs/"+jobs[0].ID+"/cancel", `{"by":"ann","why":"w"}`); status != 200 || body["state"] != "cancelled" {
		t.Errorf("cancel: %d %v", status, body)
	}
	if status, body := o.ask("POST", root+"/jobs/"+jobs[0].ID+"/cancel", `{"by":"ann","why":"w"}`); status != 409 {
		t.Errorf("cancel again: %d %v", status, body)
	}
}

// Letters show payloads, and can be discarded: who reads orders does not see them.
func TestHTTPIsForOperators(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	description := api(http.NewServeMux())
	o.Routes(description)
	operations := 0
	for path, item := range description.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			if op == nil {
				continue
			}
			operations++
			if !reflect.DeepEqual(op.Security, access.Any(access.Operator)) {
				t.Errorf("%s %s: %v", op.Method, path, op.Security)
			}
		}
	}
	if operations < 9 {
		t.Errorf("%d operations", operations)
	}
}
