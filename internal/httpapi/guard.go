package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// Tokens says who a token's bearer is: an [auth.Verifier].
type Tokens interface {
	Verify(ctx context.Context, token string) (access.Caller, error)
	Healthy() error
}

// ErrNoKeys: an address that others reach needs keys to check their tokens with.
var ErrNoKeys = errors.New("is not an address of this machine alone, so every caller needs a token: give the keys that tokens are checked with (--jwks FILE or URL, TIDEMARK_JWKS), or listen on 127.0.0.1")

// guard asks every request who sends it. Where a route is public it does not: the mux says so, so that there is one list of routes and not two.
type guard struct {
	server  *Server
	next    http.Handler
	callers *callers // nil: no limit of the rate
	refused metric.Int64Counter
	log     *slog.Logger
}

func (s *Server) guarded(next http.Handler) http.Handler {
	if s.cfg.Tokens == nil {
		return next // everybody is local, and on this machine
	}
	refused, err := s.cfg.Telemetry.Meter.Meter("github.com/tidemark/tidemark/internal/httpapi").
		Int64Counter("tidemark.http.refused", metric.WithUnit("{request}"), metric.WithDescription("requests that were refused before they were looked at, by reason"))
	if err != nil {
		s.log.Warn("refused requests are not counted", "error", err)
	}
	return &guard{server: s, next: next, callers: newCallers(s.cfg.RateLimit), refused: refused, log: s.log}
}

// ServeHTTP lets the request through with its caller, or says what is missing.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := g.server.mux.Handler(r); g.server.public[pattern] {
		g.next.ServeHTTP(w, r)
		return
	}
	caller, refusal := g.identify(r)
	who := "subject " + caller.Subject
	if refusal != nil {
		who = addressOf(r)
	}
	if wait := g.callers.take(who); wait > 0 {
		g.count(r, "rate")
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		Problem(w, http.StatusTooManyRequests, fmt.Sprintf("more than %g requests a second: try again", g.server.cfg.RateLimit))
		return
	}
	if refusal != nil {
		refusal.answer(w)
		return
	}
	inner := r.WithContext(access.With(r.Context(), caller))
	defer func() { r.Pattern = inner.Pattern }() // the mux writes it into the request that it is given; spans are named by it
	g.next.ServeHTTP(w, inner)
}

// refusal is an answer to who is not let in. It names the class of what is wrong and nothing more: whoever tries tokens out learns nothing, and the reason is in our metrics.
type refusal struct {
	status       int
	code, detail string
}

func (f *refusal) answer(w http.ResponseWriter) { challenge(w, f.status, f.code, f.detail) }

func (g *guard) identify(r *http.Request) (access.Caller, *refusal) {
	token, none := bearer(r.Header)
	if none != nil {
		g.count(r, "no_token")
		return access.Caller{}, none
	}
	caller, err := g.server.cfg.Tokens.Verify(r.Context(), token)
	if err == nil {
		return caller, nil
	}
	if errors.Is(err, auth.ErrUnavailable) {
		g.count(r, "no_keys")
		return access.Caller{}, &refusal{http.StatusServiceUnavailable, "", "tokens can't be checked yet: try again"}
	}
	reason, ok := errors.AsType[auth.Refusal](err)
	if !ok {
		reason = auth.Malformed
	}
	g.count(r, string(reason))
	return access.Caller{}, &refusal{http.StatusUnauthorized, "invalid_token", "the token is not valid"}
}

// bearer is the token of a request. Two headers are refused: a proxy and we could each believe another one.
func bearer(h http.Header) (string, *refusal) {
	values := h["Authorization"]
	switch len(values) {
	case 0:
		return "", &refusal{http.StatusUnauthorized, "", "a token is needed: Authorization: Bearer …"}
	case 1:
	default:
		return "", &refusal{http.StatusBadRequest, "invalid_request", "more than one Authorization header"}
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", &refusal{http.StatusUnauthorized, "", "a token is needed: Authorization: Bearer …"}
	}
	if token = strings.Trim(token, " "); token == "" {
		return "", &refusal{http.StatusUnauthorized, "invalid_token", "the token is not valid"}
	}
	return token, nil
}

func (g *guard) count(r *http.Request, reason string) {
	if g.refused != nil {
		g.refused.Add(r.Context(), 1, metric.WithAttributes(attribute.String("reason", reason)))
	}
	g.log.DebugContext(r.Context(), "request refused", "reason", reason, "method", r.Method, "from", r.RemoteAddr)
}

// challenge refuses as RFC 6750 says, with the scopes that would do.
func challenge(w http.ResponseWriter, status int, code, detail string, scopes ...string) {
	value := `Bearer realm="tidemark"`
	if code != "" {
		value += `, error="` + code + `"`
	}
	if len(scopes) > 0 {
		value += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	} else {
		w.Header().Set("WWW-Authenticate", value)
	}
	Problem(w, status, detail)
}

// addressOf names a caller that has not said who it is. An IPv6 address is cut to its network: whoever has one has all of it.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	if err != nil || ip == nil {
		return "address unknown"
	}
	if ip.To4() == nil {
		ip = ip.Mask(net.CIDRMask(64, 128))
	}
	return "address " + ip.String()
}
