package program

import (
	"fmt"
	"log/slog"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/run"
)

// TokenFlags say whose tokens are accepted. Every program that serves the API has them.
type TokenFlags struct {
	JWKS      string  `name:"jwks" env:"TIDEMARK_JWKS" help:"Public keys that callers' tokens are checked with: a JWKS file, or its https URL. Required where the address is not this machine's own."`
	Issuer    string  `name:"jwt-issuer" env:"TIDEMARK_JWT_ISSUER" help:"Tokens must be of this issuer (iss); empty: of any that the keys' owner signs."`
	Audience  string  `name:"jwt-audience" env:"TIDEMARK_JWT_AUDIENCE" help:"Tokens must be for this audience (aud); empty: for any."`
	RateLimit float64 `name:"rate-limit" env:"TIDEMARK_RATE_LIMIT" default:"2000" help:"Requests a second that one caller, a token's subject, may send for long; twice as many at once. 0: no limit. Without tokens there is none."`
}

// Tokens checks them, or is nil where none are asked for. The part reads the keys; run it.
func (f TokenFlags) Tokens(log *slog.Logger) (httpapi.Tokens, []run.Part, error) {
	if f.RateLimit < 0 {
		return nil, nil, fmt.Errorf("%w: --rate-limit: is %g, must be 0 or more", ErrUsage, f.RateLimit)
	}
	if f.JWKS == "" {
		if f.Issuer != "" || f.Audience != "" {
			return nil, nil, fmt.Errorf("%w: --jwt-issuer and --jwt-audience are about tokens: give --jwks, too", ErrUsage)
		}
		return nil, nil, nil
	}
	keys, err := auth.NewKeys(auth.KeysConfig{From: f.JWKS, Logger: log})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: --jwks: %w", ErrUsage, err)
	}
	verifier := auth.NewVerifier(auth.Config{Issuer: f.Issuer, Audience: f.Audience}, keys)
	return verifier, []run.Part{{Name: "token keys", Component: reader{keys}}}, nil
}

// reader is ready at once: a provider of keys that is down must not keep orders from being worked on. /readyz says that there are none.
type reader struct{ *auth.Keys }

func (r reader) Ready() <-chan struct{} { return run.Closed() }
func (r reader) Healthy() error         { return nil }
