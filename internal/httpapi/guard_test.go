package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/internal/auth/authtest"
	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// locked is a server that asks for the tokens of an issuer.
func locked(t *testing.T, i *authtest.Issuer, cfg httpapi.Config) *httpapi.Server {
	t.Helper()
	keys, err := auth.NewKeys(auth.KeysConfig{From: i.File()})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr, cfg.ReadyParts = "127.0.0.1:0", func() []run.Part { return nil }
	cfg.Tokens = auth.NewVerifier(auth.Config{Issuer: authtest.Name, Audience: authtest.Audience}, keys)
	s := start(t, cfg)
	type out struct {
		Body struct {
			Subject string `json:"subject"`
		}
	}
	huma.Register(s.API(), huma.Operation{OperationID: "thing", Method: http.MethodPost, Path: "/v1/thing", Security: access.Any(access.OrdersWrite)},
		func(ctx context.Context, _ *struct{}) (*out, error) {
			o := &out{}
			o.Body.Subject = access.From(ctx).Subject
			return o, nil
		})
	s.Handle("GET /v1/raw", access.Any(access.Operator, access.OrdersRead), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	s.Open()
	return s
}

func TestTokensOpenWhatTheirScopesSay(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	s := locked(t, i, httpapi.Config{Metrics: http.NotFoundHandler()})
	for _, c := range []struct {
		name, method, path string
		header             http.Header
		want               int
	}{
		{"the right scope", "POST", "/v1/thing", authtest.Header(i.Token("ann", access.OrdersWrite)), 200},
		{"another scope", "POST", "/v1/thing", authtest.Header(i.Token("ann", access.OrdersRead, access.Operator)), 403},
		{"no scope", "POST", "/v1/thing", authtest.Header(i.Token("ann")), 403},
		{"no token", "POST", "/v1/thing", nil, 401},
		{"one of two scopes", "GET", "/v1/raw", authtest.Header(i.Token("ann", access.OrdersRead)), 200},
		{"neither", "GET", "/v1/raw", authtest.Header(i.Token("ann", access.OrdersWrite)), 403},
		{"the description", "GET", "/openapi.json", authtest.Header(i.Token("ann")), 200},
		{"the description without a token", "GET", "/openapi.json", nil, 401},
		{"a schema without a token", "GET", "/schemas/ErrorModel.json", nil, 401},
		{"a page that is not there", "GET", "/v1/nothing", authtest.Header(i.Token("ann")), 404},
		{"whether it is there is not told", "GET", "/v1/nothing", nil, 401},
		{"nor how it may be called", "DELETE", "/v1/thing", nil, 401},
		{"a preflight", "OPTIONS", "/v1/thing", http.Header{"Origin": {"https://evil.example"}, "Access-Control-Request-Method": {"POST"}}, 401},
		{"alive", "GET", "/livez", nil, 200},
		{"ready", "GET", "/readyz", nil, 200},
		{"metrics", "GET", "/metrics", nil, 404},
		{"a way around", "GET", "//v1/raw", nil, 401},
		{"another way around", "GET", "/metrics/../v1/raw", nil, 401},
		{"health and a suffix", "GET", "/livez/", nil, 401},
		{"a password", "GET", "/v1/raw", http.Header{"Authorization": {"Basic YW5uOnB3"}}, 401},
		{"a scheme alone", "GET", "/v1/raw", http.Header{"Authorization": {"Bearer"}}, 401},
		{"nothing behind it", "GET", "/v1/raw", http.Header{"Authorization": {"Bearer  "}}, 401},
		{"a token and no scheme", "GET", "/v1/raw", http.Header{"Authorization": {i.Token("ann", access.Operator)}}, 401},
		{"the scheme in other letters", "GET", "/v1/raw", http.Header{"Authorization": {"bEARER " + i.Token("ann", access.Operator)}}, 200},
		{"two headers", "GET", "/v1/raw", http.Header{"Authorization": {"Bearer " + i.Token("ann", access.Operator), "Bearer " + i.Token("ann", access.Operator)}}, 400},
		{"two tokens in one", "GET", "/v1/raw", http.Header{"Authorization": {"Bearer " + i.Token("ann", access.Operator) + ", Bearer " + i.Token("bob", access.Operator)}}, 401},
		{"a token in the URL", "GET", "/v1/raw?access_token=" + i.Token("ann", access.Operator), nil, 401},
		{"a token in a cookie", "GET", "/v1/raw", http.Header{"Cookie": {"access_token=" + i.Token("ann", access.Operator)}}, 401},
	} {
		status, header, body := do(t, c.method, s.URL()+c.path, c.header)
		if status != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.want)
		}
		for name := range header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: answers %s", c.name, name)
			}
		}
		if status == 400 || status == 401 || status == 403 {
			refused(t, c.name, status, header, body)
		}
	}
	if _, _, body := do(t, "POST", s.URL()+"/v1/thing", authtest.Header(i.Token("ann", access.OrdersWrite))); !strings.Contains(body, `"ann"`) {
		t.Errorf("the operation does not know its caller: %s", body)
	}
	_, header, _ := do(t, "POST", s.URL()+"/v1/thing", authtest.Header(i.Token("ann")))
	if got := header.Get("WWW-Authenticate"); got != `Bearer realm="tidemark", error="insufficient_scope", scope="orders:write"` {
		t.Errorf("challenge: %s", got)
	}
}

// refused checks the form of a refusal.
func refused(t *testing.T, name string, status int, header http.Header, body string) {
	t.Helper()
	var p struct {
		Status int    `json:"status"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != status || p.Title == "" || p.Detail == "" || header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: not a problem: %v %s", name, header, body)
	}
	if !strings.HasPrefix(header.Get("WWW-Authenticate"), `Bearer realm="tidemark"`) {
		t.Errorf("%s: challenge %q", name, header.Get("WWW-Authenticate"))
	}
}

// Every bad token gets the same answer, to the byte: whoever tries them out does not learn which part was right.
func TestBadTokensAreAllTheSame(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	s := locked(t, i, httpapi.Config{})
	const want = `{"detail":"the token is not valid","status":401,"title":"Unauthorized"}`
	for _, bad := range i.BadTokens() {
		status, header, body := do(t, http.MethodGet, s.URL()+"/v1/raw", authtest.Header(bad.Token))
		if status != http.StatusUnauthorized || strings.TrimSpace(body) != want || header.Get("WWW-Authenticate") != `Bearer realm="tidemark", error="invalid_token"` {
			t.Errorf("%s: %d %v %s", bad.Name, status, header, body)
		}
	}
}

func TestAnAddressForOthersNeedsKeys(t *testing.T) {
	t.Parallel()
	for addr, fine := range map[string]bool{"0.0.0.0:0": false, ":0": false, "[::]:0": false, "127.0.0.1:0": true, "localhost:0": true} {
		s, err := httpapi.Listen(t.Context(), httpapi.Config{Addr: addr, ReadyParts: func() []run.Part { return nil }})
		if fine != (err == nil) || !fine && (!errors.Is(err, httpapi.ErrNoKeys) || !strings.Contains(err.Error(), "--jwks")) {
			t.Errorf("%s: %v", addr, err)
		}
		if err == nil {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestARouteWithoutScopesCantBeRegistered(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, register := range map[string]func(){
		"an operation": func() {
			huma.Get(s.API(), "/v1/new", func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
		},
		"a hidden one": func() {
			huma.Register(s.API(), huma.Operation{OperationID: "h", Method: "GET", Path: "/v1/h", Hidden: true}, func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
		},
		"a handler beside them": func() { s.Handle("GET /v1/x", nil, http.NotFoundHandler()) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is registered", name)
				}
			}()
			register()
		}()
	}
}

// Without tokens what operators do is for this machine, whatever the server listens on.
func TestOperatorsAreOnThisMachineWithoutTokens(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Handle("GET /v1/secrets", access.Any(access.Operator), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	s.Handle("GET /v1/things", access.Any(access.OrdersRead, access.Operator), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	s.Open()
	for _, c := range []struct {
		path, from string
		want       int
	}{{"/v1/secrets", "127.0.0.1:4000", 200}, {"/v1/secrets", "192.0.2.7:4000", 403}, {"/v1/secrets", "", 403}, {"/v1/things", "192.0.2.7:4000", 200}} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, nil)
		r.RemoteAddr = c.from
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s from %q: %d, want %d", c.path, c.from, w.Code, c.want)
		}
	}
}
