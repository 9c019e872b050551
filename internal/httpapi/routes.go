package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// Route is one thing that the server answers, and what it asks of the caller.
type Route struct {
	Pattern string             // as net/http takes it: "GET /v1/orders/{id}"
	Need    access.Requirement // empty: everybody, without a token
	Stream  bool               // the answer does not end by itself
}

// Routes are all that the server answers, sorted by path, then method.
func (s *Server) Routes() []Route {
	out := slices.Clone(s.routes)
	path := func(r Route) string {
		method, path, _ := strings.Cut(r.Pattern, " ")
		return path + " " + method
	}
	slices.SortFunc(out, func(a, b Route) int { return strings.Compare(path(a), path(b)) })
	return out
}

// Handle serves a pattern of net/http beside the API, to callers that meet the requirement.
func (s *Server) Handle(pattern string, need access.Requirement, h http.Handler) {
	if len(need) == 0 {
		panic("httpapi: " + pattern + " does not say who may call it")
	}
	s.add(Route{Pattern: pattern, Need: need}, h)
}

// HandlePublic serves a pattern to everybody, without a token.
func (s *Server) HandlePublic(pattern string, h http.Handler) {
	s.public[pattern] = true
	s.add(Route{Pattern: pattern}, h)
}

func (s *Server) add(r Route, h http.Handler) {
	s.routes = append(s.routes, r)
	s.mux.Handle(r.Pattern, s.allow(r, h))
}

// adapter registers huma's operations. One that does not declare its scopes can't be registered: what nobody thought of must not be open.
type adapter struct {
	server *Server
	pass   http.Handler // answers instead of the operations' handlers, if not nil
}

// document: huma builds its answers when they are asked for first, and not with two at once in mind.
type document struct{ mu sync.Mutex }

// Handle registers an operation.
func (a *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	pattern := strings.ToUpper(op.Method) + " " + op.Path
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(humago.NewContext(op, r, w)) })
	need := op.Security
	switch {
	case describes(op.Path):
		need = access.AnyToken()
		h = a.server.document.oneByOne(h)
	case len(need) == 0:
		panic(fmt.Sprintf("httpapi: %s (%s) does not declare its scopes: set Security", pattern, op.OperationID))
	case a.pass != nil:
		h = a.pass
	}
	a.server.add(Route{Pattern: pattern, Need: need, Stream: streams(op)}, h)
}

// ServeHTTP serves what is registered.
func (a *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.server.mux.ServeHTTP(w, r) }

// describes reports whether huma itself answers the path: with the document, or a part of it.
func describes(path string) bool {
	return path == "/schemas/{schema}" || strings.HasPrefix(path, "/openapi.") || strings.HasPrefix(path, "/openapi-")
}

func (d *document) oneByOne(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func streams(op *huma.Operation) bool {
	ok := op.Responses["200"]
	return ok != nil && ok.Content["text/event-stream"] != nil
}

// newAPI is the huma API of the server: OpenAPI 3.1 at /openapi.json, problem+json errors. The page that huma would show loads its script from elsewhere, so it is off.
func (s *Server) newAPI(version string) huma.API {
	config := huma.DefaultConfig("Tidemark", version)
	config.DocsPath = ""
	config.CreateHooks = nil // they would add a $schema to every body
	config.Info.Description = "An event-driven order system on NATS JetStream."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{access.Scheme: {
		Type: "http", Scheme: "bearer", BearerFormat: "JWT",
		Description: "A signed token with the scopes that an operation names; one of its alternatives is enough. Without keys to check tokens with, which is on loopback only, none is asked for.",
	}}
	config.OnAddOperation = append(config.OnAddOperation, describeRefusals)
	return huma.NewAPI(config, &adapter{server: s})
}

// describeRefusals adds the answers that every operation can give.
func describeRefusals(_ *huma.OpenAPI, op *huma.Operation) {
	for status, why := range map[string]string{
		"401": "No token, or one that is not valid", "403": "The token's scopes do not open this", "429": "Too many requests of this caller, or too much in flight",
	} {
		if op.Responses[status] == nil {
			op.Responses[status] = &huma.Response{Description: why, Content: map[string]*huma.MediaType{problemType: {Schema: &huma.Schema{Ref: "#/components/schemas/ErrorModel"}}}}
		}
	}
}

// Elsewhere is an API whose operations h answers: those of a service that runs by itself. They are described and guarded as if it ran here.
func (s *Server) Elsewhere(h http.Handler) huma.API {
	config := huma.DefaultConfig("Tidemark", s.cfg.Version)
	config.DocsPath, config.OpenAPIPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.OpenAPI = s.api.OpenAPI()
	return huma.NewAPI(config, &adapter{server: s, pass: h})
}

// allow lets in who meets the route's requirement. Without tokens everybody is on this machine; what operators do is refused all the same to who is not, whatever the address is.
func (s *Server) allow(route Route, next http.Handler) http.Handler {
	operators := slices.Equal(scopesOf(route.Need), []string{access.Operator})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := access.From(r.Context())
		switch {
		case len(route.Need) == 0:
		case s.cfg.Tokens == nil && operators && !loopback(r.RemoteAddr):
			Problem(w, http.StatusForbidden, elsewhere)
			return
		case s.cfg.Tokens != nil && !caller.May(route.Need):
			scopes := strings.Join(scopesOf(route.Need), " or ")
			challenge(w, http.StatusForbidden, "insufficient_scope", "the token's scopes do not open this; it takes "+scopes, scopesOf(route.Need)...)
			return
		}
		if route.Stream {
			// Its time ends with the token's, and the server's limit is for answers that end.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // where there is no connection there is no deadline
			if !caller.Expires.IsZero() {
				ctx, cancel := context.WithDeadline(r.Context(), caller.Expires.Add(auth.Leeway))
				defer cancel()
				inner := r.WithContext(ctx)
				defer func() { r.Pattern = inner.Pattern }()
				r = inner
			}
		}
		next.ServeHTTP(w, r)
	})
}

// scopesOf are the scopes that a requirement names, in its order.
func scopesOf(need access.Requirement) []string {
	var out []string
	for _, together := range need {
		out = append(out, together[access.Scheme]...)
	}
	return out
}
