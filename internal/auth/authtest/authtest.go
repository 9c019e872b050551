// Package authtest signs tokens for tests: good ones, and every kind of bad one that must be refused. What one test knows of attacks, all of them try.
package authtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/tidemark/tidemark/pkg/events/access"
)

// The issuer and the audience that [Issuer.Token] writes.
const (
	Name     = "https://issuer.example"
	Audience = "tidemark"
)

// Issuer signs tokens with keys of its own.
type Issuer struct {
	t    testing.TB
	EC   jose.JSONWebKey // signs what nothing else is said of
	RSA  jose.JSONWebKey // in the JWKS, too
	file string
}

// New makes an issuer and its JWKS file.
func New(tb testing.TB) *Issuer {
	tb.Helper()
	i := &Issuer{t: tb, EC: ECKey(tb), file: filepath.Join(tb.TempDir(), "jwks.json")}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	i.RSA = jose.JSONWebKey{Key: private, KeyID: "rsa", Use: "sig"}
	i.Publish(i.EC.Public(), i.RSA.Public())
	return i
}

// ECKey makes a key for ES256.
func ECKey(tb testing.TB) jose.JSONWebKey {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, Use: "sig", Algorithm: string(jose.ES256)}
	public := key.Public()
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		tb.Fatal(err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	return key
}

// File is where the JWKS is.
func (i *Issuer) File() string { return i.file }

// Publish replaces the JWKS.
func (i *Issuer) Publish(keys ...jose.JSONWebKey) {
	i.t.Helper()
	if err := os.WriteFile(i.file, Document(i.t, keys...), 0o600); err != nil {
		i.t.Fatal(err)
	}
}

// Document is a JWKS.
func Document(tb testing.TB, keys ...jose.JSONWebKey) []byte {
	tb.Helper()
	out, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Claims are those of a good token for a subject with scopes.
func Claims(subject string, scopes ...string) map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": Name, "aud": Audience, "sub": subject, "scope": strings.Join(scopes, " "), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
}

// Token is a good one.
func (i *Issuer) Token(subject string, scopes ...string) string {
	return i.Sign(Claims(subject, scopes...), jose.ES256, i.EC, nil)
}

// Sign signs claims, with more header fields if there are any.
func (i *Issuer) Sign(claims map[string]any, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any) string {
	i.t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range header {
		options = options.WithHeader(name, value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		i.t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

// BadToken is a token that must be refused, and the reason that we keep for ourselves.
type BadToken struct{ Name, Token, Reason string }

// BadTokens are all that we know of, each but for one thing a token that opens everything.
func (i *Issuer) BadTokens() []BadToken {
	i.t.Helper()
	all := access.Scopes()
	with := func(change func(c map[string]any)) string {
		c := Claims("mallory", all...)
		change(c)
		return i.Sign(c, jose.ES256, i.EC, nil)
	}
	without := func(name string) string { return with(func(c map[string]any) { delete(c, name) }) }
	good := Claims("mallory", all...)
	other := ECKey(i.t)
	sameID := other
	sameID.KeyID = i.EC.KeyID
	signed := i.Token("mallory", all...)
	parts := strings.Split(signed, ".")
	forged := Claims("root", all...)
	return []BadToken{
		{"expired", with(func(c map[string]any) { c["exp"] = time.Now().Add(-2 * time.Minute).Unix() }), "expired"},
		{"without an expiry", without("exp"), "no_expiry"},
		{"an expiry that is no number", with(func(c map[string]any) { c["exp"] = "tomorrow" }), "claims"},
		{"an expiry beyond all numbers", with(func(c map[string]any) { c["exp"] = 1e300 }), "claims"},
		{"not valid yet", with(func(c map[string]any) { c["nbf"] = time.Now().Add(2 * time.Minute).Unix() }), "not_yet"},
		{"issued in the future", with(func(c map[string]any) { c["iat"] = time.Now().Add(2 * time.Minute).Unix() }), "not_yet"},
		{"of another issuer", with(func(c map[string]any) { c["iss"] = "https://evil.example" }), "issuer"},
		{"of no issuer", without("iss"), "issuer"},
		{"for another audience", with(func(c map[string]any) { c["aud"] = []string{"billing", "Tidemark"} }), "audience"},
		{"for no audience", without("aud"), "audience"},
		{"of nobody", without("sub"), "claims"},
		{"of a subject that is no text", with(func(c map[string]any) { c["sub"] = 7 }), "claims"},
		{"of a subject with control characters", with(func(c map[string]any) { c["sub"] = "ann\nadmin" }), "claims"},
		{"of a subject that is too long", with(func(c map[string]any) { c["sub"] = strings.Repeat("a", 256) }), "claims"},
		{"another key", i.Sign(good, jose.ES256, other, nil), "unknown_key"},
		{"another key under our key's id", i.Sign(good, jose.ES256, sameID, nil), "signature"},
		{"a key that it brings along (jwk)", i.Sign(good, jose.ES256, sameID.Key, map[jose.HeaderKey]any{"jwk": sameID.Public(), "kid": i.EC.KeyID}), "signature"},
		{"a place where its key is (jku)", i.Sign(good, jose.ES256, sameID, map[jose.HeaderKey]any{"jku": "https://evil.example/jwks.json"}), "signature"},
		{"no id of a key, where there are several", i.Sign(good, jose.RS256, i.RSA.Key, map[jose.HeaderKey]any{"kid": "../../dev/null"}), "unknown_key"},
		{"an id that is SQL", i.Sign(good, jose.ES256, other.Key, map[jose.HeaderKey]any{"kid": "x' UNION SELECT 'key"}), "unknown_key"},
		{"alg none", unsecured(i.t, `{"alg":"none","typ":"JWT"}`, good, ""), "malformed"},
		{"alg None", unsecured(i.t, `{"alg":"None","typ":"JWT"}`, good, ""), "malformed"},
		{"alg none, with our key's id and a signature", unsecured(i.t, `{"alg":"none","kid":"`+i.EC.KeyID+`"}`, good, parts[2]), "malformed"},
		{"no alg", unsecured(i.t, `{"kid":"`+i.EC.KeyID+`"}`, good, parts[2]), "malformed"},
		{"HS256 with our public key as the secret", i.Sign(good, jose.HS256, publicPEM(i.t, i.RSA), map[jose.HeaderKey]any{"kid": "rsa"}), "malformed"},
		{"HS256 with our JWKS as the secret", i.Sign(good, jose.HS256, Document(i.t, i.EC.Public(), i.RSA.Public()), map[jose.HeaderKey]any{"kid": i.EC.KeyID}), "malformed"},
		{"RS256 in the name of our EC key", i.Sign(good, jose.RS256, i.RSA.Key, map[jose.HeaderKey]any{"kid": i.EC.KeyID}), "unknown_key"},
		{"something that one must understand (crit)", i.Sign(good, jose.ES256, i.EC, map[jose.HeaderKey]any{"crit": []string{"exp"}, "exp": 1}), "malformed"},
		{"an unencoded payload (b64)", i.Sign(good, jose.ES256, i.EC, map[jose.HeaderKey]any{"crit": []string{"b64"}, "b64": true}), "malformed"},
		{"claims that were changed", parts[0] + "." + encode(i.t, forged) + "." + parts[2], "signature"},
		{"a signature that was cut", signed[:len(signed)-4], "signature"},
		{"no signature", parts[0] + "." + parts[1] + ".", "signature"},
		{"two parts", parts[0] + "." + parts[1], "malformed"},
		{"four parts", signed + ".x", "malformed"},
		{"not base64", "a b.c/d.e=f", "malformed"},
		{"no JSON", "AAAA.AAAA.AAAA", "malformed"},
		{"a claim that comes twice", i.twice(), "claims"},
		{"scopes that are a number", with(func(c map[string]any) { c["scope"] = 7 }), "claims"},
		{"huge", with(func(c map[string]any) { c["more"] = strings.Repeat("x", 16<<10) }), "too_long"},
		{"a password", "hunter2", "malformed"},
	}
}

// twice is a token whose subject stands in it two times: whoever reads the first and whoever reads the last would see different callers.
func (i *Issuer) twice() string {
	i.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.EC}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	good, err := json.Marshal(Claims("ann", access.Scopes()...))
	if err != nil {
		i.t.Fatal(err)
	}
	object, err := signer.Sign([]byte(`{"sub":"root",` + string(good[1:])))
	if err != nil {
		i.t.Fatal(err)
	}
	token, err := object.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

func encode(tb testing.TB, v any) string {
	tb.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func unsecured(tb testing.TB, header string, claims map[string]any, signature string) string {
	tb.Helper()
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + encode(tb, claims) + "." + signature
}

func publicPEM(tb testing.TB, key jose.JSONWebKey) []byte {
	tb.Helper()
	public := key.Public()
	der, err := x509.MarshalPKIXPublicKey(public.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Header is that of a request with a token.
func Header(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
