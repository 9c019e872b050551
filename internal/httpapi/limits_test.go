package httpapi_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/internal/auth/authtest"
	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// One caller that asks too much is slowed down, and nobody else.
func TestEachCallerHasARate(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	s := locked(t, i, httpapi.Config{RateLimit: 0.01}) // one at once, and then long none
	ann, bob := authtest.Header(i.Token("ann", access.OrdersRead)), authtest.Header(i.Token("bob", access.OrdersRead))
	for n, c := range []struct {
		header http.Header
		want   int
	}{{ann, 200}, {ann, 429}, {authtest.Header(i.Token("ann", access.Operator)), 429}, {bob, 200}, {nil, 401}, {nil, 429}, {authtest.Header("x"), 429}} {
		status, header, body := do(t, http.MethodGet, s.URL()+"/v1/raw", c.header)
		if status != c.want || (status == 429) != (header.Get("Retry-After") != "") {
			t.Errorf("request %d: %d %v %s, want %d", n, status, header, body, c.want)
		}
	}
	if status, _, _ := do(t, http.MethodGet, s.URL()+"/livez", nil); status != http.StatusOK {
		t.Errorf("the health page has a rate, too: %d", status)
	}
}

// raw sends a request line and headers as they stand.
func raw(t *testing.T, s *httpapi.Server, request string) int {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprint(conn, request+"\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode
}

// A page can let its own name point to 127.0.0.1, and is of one origin with us then. Without tokens its name is what gives it away.
func TestForeignHostsAreRefusedWithoutTokens(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Handle("POST /v1/thing", access.AnyToken(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	s.Open()
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "localhost:8080": 200, "LOCALHOST": 200, "[::1]:8080": 200, "127.0.0.2": 200,
		"evil.example:8080": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "192.0.2.1:8080": 403,
	} {
		if got := raw(t, s, "POST /v1/thing HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 0\r\nSec-Fetch-Site: same-origin"); got != want {
			t.Errorf("Host %s: %d, want %d", host, got, want)
		}
	}
	for name, header := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		if got := raw(t, s, "POST /v1/thing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n"+name+": "+header); got != http.StatusForbidden {
			t.Errorf("%s: %s may post: %d", name, header, got)
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if got := raw(t, s, "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: "+strings.Repeat("x", 128<<10)); got != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 128 KiB: %d", got)
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, path := range []string{"/livez", "/v1/nothing"} {
		_, header, _ := do(t, http.MethodGet, s.URL()+path, nil)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer",
			"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
	}
}
