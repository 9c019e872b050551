package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/internal/auth/authtest"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// FuzzToken: whatever comes, it is a refusal, unless it is the one token that was signed.
//
// It faces outside.
func FuzzToken(f *testing.F) {
	i := authtest.New(f)
	keys, err := auth.NewKeys(auth.KeysConfig{From: i.File()})
	if err != nil {
		f.Fatal(err)
	}
	v := auth.NewVerifier(auth.Config{Issuer: authtest.Name, Audience: authtest.Audience}, keys)
	for _, bad := range i.BadTokens() {
		if len(bad.Token) < 4<<10 {
			f.Add(bad.Token)
		}
	}
	f.Add(i.Token("ann", access.OrdersRead))
	f.Fuzz(func(t *testing.T, token string) {
		caller, err := v.Verify(t.Context(), token)
		_, refused := errors.AsType[auth.Refusal](err)
		switch {
		case err == nil && caller.Subject == "ann" && slices.Equal(caller.Scopes, []string{access.OrdersRead}):
		case err == nil:
			t.Errorf("%q opens the door to %+v", token, caller)
		case !refused || caller.Subject != "" || len(caller.Scopes) > 0:
			t.Errorf("%q: %+v, %v", token, caller, err)
		}
	})
}

// FuzzKeys: a JWKS comes from a provider, which may be broken or not who we think.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"use":"sig","kty":"EC","kid":"1","crv":"P-256","alg":"ES256","x":"oybKgbgPaURtRlrtClEzHz487pbNIK3aF4u1SIAWxsE","y":"NIQapPhcV3e-nzCXSoyRgASFsfkR_VzIyUHMlj0hdbY"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	path := filepath.Join(f.TempDir(), "jwks.json")
	f.Fuzz(func(t *testing.T, document []byte) {
		if err := os.WriteFile(path, document, 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := auth.NewKeys(auth.KeysConfig{From: path})
		if (err == nil) != (keys != nil) || err != nil && !errors.Is(err, auth.ErrKeys) {
			t.Errorf("%q: %v", document, err)
		}
	})
}
