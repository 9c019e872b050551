package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Limits of a JWKS. Providers publish two to ten keys.
const (
	maxKeysBytes = 256 << 10
	maxKeys      = 100
	minRSABits   = 2048
	maxRSABits   = 8192 // a longer one makes each check slow
)

// ErrKeys is wrapped by everything that is wrong with a JWKS.
var ErrKeys = errors.New("keys of tokens (JWKS)")

// algorithms are those that a token may be signed with. All are asymmetric: with HS256 in the list, a public key would be the secret that makes tokens.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, jose.PS256, jose.PS384, jose.PS512, jose.RS256, jose.RS384, jose.RS512}
}

// keySet is the keys of one JWKS that can check tokens.
type keySet struct{ keys []jose.JSONWebKey }

// parseKeySet reads a JWKS. Keys that are for something else, or of a kind that we don't know, are passed over, as RFC 7517 asks for. It is an error where nothing is left, and
// where there is a private key: whoever published it must hear of it.
func parseKeySet(document []byte) (*keySet, error) {
	if len(document) > maxKeysBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrKeys, maxKeysBytes)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, fmt.Errorf("%w: not a JWKS: %w", ErrKeys, err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("%w: %d keys, more than %d", ErrKeys, len(set.Keys), maxKeys)
	}
	out := &keySet{}
	for i, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := json.Unmarshal(raw, &key); err != nil {
			continue
		}
		if !key.IsPublic() {
			return nil, fmt.Errorf("%w: key %d is secret: publish public keys only, and make new ones", ErrKeys, i)
		}
		if usable(&key) {
			out.keys = append(out.keys, key)
		}
	}
	if len(out.keys) == 0 {
		return nil, fmt.Errorf("%w: no key in it can check a signature", ErrKeys)
	}
	return out, nil
}

func usable(key *jose.JSONWebKey) bool {
	return key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") && slices.ContainsFunc(algorithms(), func(a jose.SignatureAlgorithm) bool { return fits(key, a) })
}

// fits reports whether a signature of this algorithm can be checked with the key: its kind, its size, and what the key itself says it is for.
func fits(key *jose.JSONWebKey, alg jose.SignatureAlgorithm) bool {
	if key.Algorithm != "" && key.Algorithm != string(alg) {
		return false
	}
	switch public := key.Key.(type) {
	case *ecdsa.PublicKey:
		switch alg {
		case jose.ES256:
			return public.Curve == elliptic.P256()
		case jose.ES384:
			return public.Curve == elliptic.P384()
		case jose.ES512:
			return public.Curve == elliptic.P521()
		}
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	case *rsa.PublicKey:
		bits := public.N.BitLen()
		return bits >= minRSABits && bits <= maxRSABits &&
			slices.Contains([]jose.SignatureAlgorithm{jose.PS256, jose.PS384, jose.PS512, jose.RS256, jose.RS384, jose.RS512}, alg)
	}
	return false
}

// maxTries is how many keys of one id are tried: a JWKS should have one.
const maxTries = 4

// find are the keys that may have signed a token. One without a key id can have been signed by the only key that fits; where there are several it says too little.
func (s *keySet) find(id string, alg jose.SignatureAlgorithm) []jose.JSONWebKey {
	var found []jose.JSONWebKey
	for i := range s.keys {
		if (id == "" || s.keys[i].KeyID == id) && fits(&s.keys[i], alg) {
			found = append(found, s.keys[i])
		}
	}
	if id == "" && len(found) > 1 {
		return nil
	}
	return found[:min(len(found), maxTries)]
}
