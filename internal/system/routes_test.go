package system

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/auth/authtest"
	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// lockedUp is a running system that asks for the tokens of an issuer.
func lockedUp(t *testing.T, i *authtest.Issuer, logs io.Writer) *System {
	t.Helper()
	provider, err := telemetry.New(telemetry.Config{LogLevel: "debug", LogFormat: "json", Output: logs})
	if err != nil {
		t.Fatal(err)
	}
	const anyPort = "127.0.0.1:0"
	s, err := New(Config{
		HTTP: anyPort, Dir: t.TempDir(), NATSAddr: anyPort, GatewayAddr: anyPort, MailAddr: anyPort, Version: "test", Provider: provider,
		Tokens: program.TokenFlags{JWKS: i.File(), Issuer: authtest.Name, Audience: authtest.Audience},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return s
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// request asks for a route with made-up parameters. It waits for the head of the answer only: some do not end.
func request(t *testing.T, base string, route httpapi.Route, header http.Header) (*http.Response, string) {
	t.Helper()
	method, path, _ := strings.Cut(route.Pattern, " ")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+parameter.ReplaceAllString(path, "x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", route.Pattern, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode < 400 {
		return res, ""
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// TestEveryRouteAsksForItsToken sends everything bad that we know of to every route of a running system, also of the gateway.
func TestEveryRouteAsksForItsToken(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	s := lockedUp(t, i, io.Discard)
	bad := i.BadTokens()
	type place struct {
		url    string
		routes []httpapi.Route
	}
	places := []place{{s.URL(), s.server.Routes()}, {s.outside.gateway.URL(), s.outside.gateway.Routes()}}
	public := map[string]bool{"GET /livez": true, "GET /readyz": true, "GET /metrics": true, "POST /v1/payments": true, "POST /v1/payments/{key}/void": true}
	asked := 0
	for _, p := range places {
		for _, route := range p.routes {
			if len(route.Need) == 0 {
				if !public[route.Pattern] {
					t.Errorf("%s is open to everybody", route.Pattern)
				}
				continue
			}
			asked++
			refused := func(what string, header http.Header, want int) {
				t.Helper()
				res, body := request(t, p.url, route, header)
				if res.StatusCode != want || res.Header.Get("Content-Type") != "application/problem+json" || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer ") || !strings.Contains(body, fmt.Sprintf(`"status":%d`, want)) {
					t.Errorf("%s, %s: %d %v %s, want %d", route.Pattern, what, res.StatusCode, res.Header, body, want)
				}
			}
			refused("no token", nil, http.StatusUnauthorized)
			for _, b := range bad {
				refused(b.Name, authtest.Header(b.Token), http.StatusUnauthorized)
			}
			good := i.Token("ann", access.Scopes()...)
			refused("two headers", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, http.StatusBadRequest)
			for _, scope := range access.Scopes() {
				caller, token := access.Caller{Scopes: []string{scope}}, i.Token("ann", scope)
				if !caller.May(route.Need) {
					refused("with "+scope, authtest.Header(token), http.StatusForbidden)
				} else if res, body := request(t, p.url, route, authtest.Header(token)); res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
					t.Errorf("%s with %s: %d %s", route.Pattern, scope, res.StatusCode, body)
				}
			}
		}
	}
	if asked < 40 {
		t.Errorf("%d routes ask for a token", asked)
	}
}

// TestTheDocumentedScopes compares the table of docs/reference/http.md with what the running system asks for.
func TestTheDocumentedScopes(t *testing.T) {
	t.Parallel()
	s := lockedUp(t, authtest.New(t), io.Discard)
	var want strings.Builder
	want.WriteString("| route | a token with one of |\n|---|---|\n")
	for _, r := range s.server.Routes() {
		_, path, _ := strings.Cut(r.Pattern, " ")
		if strings.HasPrefix(path, "/openapi") || strings.HasPrefix(path, "/schemas") || strings.Contains(path, "...") {
			continue
		}
		need := "no token"
		for n, together := range r.Need {
			if n == 0 {
				need = ""
			} else {
				need += ", "
			}
			need += "`" + strings.Join(together[access.Scheme], " ") + "`"
		}
		fmt.Fprintf(&want, "| `%s` | %s |\n", r.Pattern, need)
	}
	page, err := os.ReadFile("../../docs/reference/http.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), want.String()) {
		t.Errorf("docs/reference/http.md does not have this table:\n%s", want.String())
	}
}

// TestTokensAreInNoLog: a token is a secret, a bad one, too.
func TestTokensAreInNoLog(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	var logs strings.Builder
	s := lockedUp(t, i, writer(logs.Write)) // slog writes a line at a time, under a lock
	good, bad := i.Token("sentinel", access.OrdersWrite, access.OrdersRead), "sentinel.sentinel.sentinel"
	for _, token := range []string{good, bad} {
		for _, r := range s.server.Routes() {
			if !r.Stream {
				if _, body := request(t, s.URL(), r, authtest.Header(token)); strings.Contains(body, token) {
					t.Errorf("%s sends the token back: %s", r.Pattern, body)
				}
			}
		}
	}
	s.log.Info("the end")
	for _, secret := range []string{good, bad, strings.Split(good, ".")[2]} {
		if strings.Contains(logs.String(), secret) {
			t.Errorf("the logs hold the token %s", secret)
		}
	}
	if !strings.Contains(logs.String(), "the end") || !strings.Contains(logs.String(), "request refused") {
		t.Error("the logs hold nothing: this test would see nothing")
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
