package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/tidemark/tidemark/pkg/events/access"
)

const (
	// MaxToken is how long a token may be, in bytes. Those of providers with many claims have two to four thousand.
	MaxToken = 8 << 10
	// Leeway is how far our clock and the signer's may be apart.
	Leeway = 30 * time.Second

	maxSubject = 255
)

// Refusal is why a token is not accepted: for our metrics and logs. The caller is told no more than that it is not valid.
type Refusal string

// The reasons.
const (
	Malformed    Refusal = "malformed"   // no JWT that is signed with an algorithm of ours
	TooLong      Refusal = "too_long"    //
	UnknownKey   Refusal = "unknown_key" // no key of ours fits
	BadSignature Refusal = "signature"   //
	Expired      Refusal = "expired"     //
	NotYet       Refusal = "not_yet"     // nbf or iat lie ahead
	NoExpiry     Refusal = "no_expiry"   //
	OtherIssuer  Refusal = "issuer"      //
	OtherTarget  Refusal = "audience"    // it was made for another service
	BadClaims    Refusal = "claims"      // such as no subject
)

func (r Refusal) Error() string { return "the token is refused: " + string(r) }

// ErrUnavailable: there are no keys, so nothing can be said of any token.
var ErrUnavailable = errors.New("tokens can't be checked")

// Config says which tokens are accepted.
type Config struct {
	Issuer   string // iss must be this; empty: any that the keys' owner signs
	Audience string // aud must hold this; empty: any
}

// Verifier checks tokens. It is safe for use by many goroutines.
type Verifier struct {
	cfg  Config
	keys *Keys
	now  func() time.Time
}

// NewVerifier checks tokens with these keys.
func NewVerifier(cfg Config, keys *Keys) *Verifier {
	return &Verifier{cfg: cfg, keys: keys, now: time.Now}
}

// Healthy says that there are no keys yet.
func (v *Verifier) Healthy() error { return v.keys.Healthy() }

// claims are what we look at.
type claims struct {
	jwt.Claims

	Scope words `json:"scope"` // RFC 8693, RFC 9068
	Scp   words `json:"scp"`   // the same at some providers
}

// Verify says who calls, or a [Refusal], or [ErrUnavailable].
func (v *Verifier) Verify(ctx context.Context, token string) (access.Caller, error) {
	if len(token) > MaxToken {
		return access.Caller{}, TooLong
	}
	parsed, err := jwt.ParseSigned(token, algorithms())
	if err != nil || len(parsed.Headers) != 1 {
		return access.Caller{}, Malformed
	}
	header := &parsed.Headers[0]
	if _, ok := header.ExtraHeaders["crit"]; ok { // we understand none of the extensions that one must understand
		return access.Caller{}, Malformed
	}
	c, err := v.signed(ctx, parsed, header)
	if err != nil {
		return access.Caller{}, err
	}
	if err := v.check(&c); err != nil {
		return access.Caller{}, err
	}
	scopes := slices.Concat(c.Scope, c.Scp)
	return access.Caller{
		Subject: c.Subject, Expires: c.Expiry.Time(),
		Scopes: slices.DeleteFunc(access.Scopes(), func(s string) bool { return !slices.Contains(scopes, s) }),
	}, nil
}

// signed are the claims, once a key of ours says that they are its owner's.
func (v *Verifier) signed(ctx context.Context, parsed *jwt.JSONWebToken, header *jose.Header) (claims, error) {
	keys, err := v.keys.find(ctx, header.KeyID, jose.SignatureAlgorithm(header.Algorithm))
	if err != nil {
		return claims{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(keys) == 0 {
		return claims{}, UnknownKey
	}
	for i := range keys {
		var c claims
		err := parsed.Claims(keys[i].Key, &c)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, jose.ErrCryptoFailure):
			continue
		}
		return claims{}, BadClaims
	}
	return claims{}, BadSignature
}

func (v *Verifier) check(c *claims) error {
	if c.Expiry == nil {
		return NoExpiry
	}
	expected := jwt.Expected{Issuer: v.cfg.Issuer, Time: v.now()}
	if v.cfg.Audience != "" {
		expected.AnyAudience = jwt.Audience{v.cfg.Audience}
	}
	switch err := c.ValidateWithLeeway(expected, Leeway); {
	case errors.Is(err, jwt.ErrExpired):
		return Expired
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return NotYet
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return OtherIssuer
	case errors.Is(err, jwt.ErrInvalidAudience):
		return OtherTarget
	case err != nil:
		return BadClaims
	}
	if !goodSubject(c.Subject) {
		return BadClaims
	}
	return nil
}

// goodSubject: it becomes a part of ids and stands in histories that people read.
func goodSubject(s string) bool {
	return s != "" && len(s) <= maxSubject && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}
