package auth_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/internal/auth/authtest"
	"github.com/tidemark/tidemark/pkg/events/access"
)

func verifier(t *testing.T, i *authtest.Issuer) *auth.Verifier {
	t.Helper()
	keys, err := auth.NewKeys(auth.KeysConfig{From: i.File()})
	if err != nil {
		t.Fatal(err)
	}
	return auth.NewVerifier(auth.Config{Issuer: authtest.Name, Audience: authtest.Audience}, keys)
}

func TestGoodTokens(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	v := verifier(t, i)
	with := func(change func(c map[string]any)) map[string]any {
		c := authtest.Claims("ann", access.OrdersRead, access.OrdersWrite)
		change(c)
		return c
	}
	same := func(map[string]any) {}
	for _, c := range []struct {
		name   string
		claims map[string]any
		alg    jose.SignatureAlgorithm
		key    any
		scopes []string
	}{
		{"ES256", with(same), jose.ES256, i.EC, []string{access.OrdersWrite, access.OrdersRead}},
		{"RS256", with(same), jose.RS256, i.RSA, []string{access.OrdersWrite, access.OrdersRead}},
		{"PS256", with(same), jose.PS256, i.RSA, []string{access.OrdersWrite, access.OrdersRead}},
		{"no id of the key, and one fits", with(same), jose.ES256, i.EC.Key, []string{access.OrdersWrite, access.OrdersRead}},
		{"several audiences", with(func(c map[string]any) { c["aud"] = []string{"other", authtest.Audience} }), jose.ES256, i.EC, []string{access.OrdersWrite, access.OrdersRead}},
		{"scopes as an array, and by their other name", with(func(c map[string]any) { delete(c, "scope"); c["scp"] = []string{access.Operator} }), jose.ES256, i.EC, []string{access.Operator}},
		{"scopes of others", with(func(c map[string]any) { c["scope"] = "openid orders:writer ORDERS:READ profile" }), jose.ES256, i.EC, []string{}},
		{"no scopes", with(func(c map[string]any) { delete(c, "scope") }), jose.ES256, i.EC, []string{}},
		{"a clock that is a little behind", with(func(c map[string]any) { c["exp"] = time.Now().Add(-10 * time.Second).Unix() }), jose.ES256, i.EC, []string{access.OrdersWrite, access.OrdersRead}},
		{"a clock that is a little ahead", with(func(c map[string]any) { c["nbf"] = time.Now().Add(10 * time.Second).Unix() }), jose.ES256, i.EC, []string{access.OrdersWrite, access.OrdersRead}},
	} {
		caller, err := v.Verify(t.Context(), i.Sign(c.claims, c.alg, c.key, nil))
		if err != nil || caller.Subject != "ann" || !slices.Equal(caller.Scopes, c.scopes) || caller.Expires.IsZero() {
			t.Errorf("%s: %+v, %v", c.name, caller, err)
		}
	}
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	v := verifier(t, i)
	for _, bad := range i.BadTokens() {
		caller, err := v.Verify(t.Context(), bad.Token)
		reason, ok := errors.AsType[auth.Refusal](err)
		if !ok || string(reason) != bad.Reason || caller.Subject != "" {
			t.Errorf("%s: %+v, %v; want %q", bad.Name, caller, err, bad.Reason)
		}
	}
}

// A token without a key's id says too little where several keys fit: trying all of them would let it choose.
func TestTokenWithoutKeyIDNeedsOneKey(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	other := authtest.ECKey(t)
	i.Publish(i.EC.Public(), other.Public())
	v := verifier(t, i)
	token := i.Sign(authtest.Claims("ann"), jose.ES256, i.EC.Key, nil)
	if _, err := v.Verify(t.Context(), token); !errors.Is(err, auth.UnknownKey) {
		t.Errorf("got %v", err)
	}
}
