package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/tidemark/tidemark/pkg/events/access"
)

// The files of a key directory.
const (
	SigningKeyFile = "token-signing.jwk" // secret: who has it makes any token
	KeysFile       = "jwks.json"         // public: what servers check tokens with
)

// ErrIssue is wrapped by everything that can't be issued.
var ErrIssue = errors.New("issue a token")

// MakeKeys makes a signing key in a directory, and its JWKS in the same one or another. What is there stays, unless rotate: then a new key signs from now on, and the keys before
// it stay in the JWKS, so that tokens they have signed are good until they expire. It returns the id of the key that signs.
func MakeKeys(dir, public string, rotate bool) (string, error) {
	for _, d := range []string{dir, public} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return "", err
		}
	}
	key, err := signingKey(dir)
	switch {
	case err == nil && !rotate:
		return key.KeyID, publish(public, key.Public())
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	key = jose.JSONWebKey{Key: private, Use: "sig", Algorithm: string(jose.ES256)}
	shown := key.Public()
	thumbprint, err := shown.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	if err := publish(public, key.Public()); err != nil { // first: a token must not be there before its key
		return "", err
	}
	secret, err := json.Marshal(key)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return key.KeyID, replace(filepath.Join(dir, SigningKeyFile), append(secret, '\n'), 0o600)
}

// signingKey reads the secret key. It refuses one that others on the machine can read.
func signingKey(dir string) (jose.JSONWebKey, error) {
	path := filepath.Join(dir, SigningKeyFile)
	info, err := os.Stat(path)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return jose.JSONWebKey{}, fmt.Errorf("%s can be read by others: it makes any token; chmod 600 it, or make another", path)
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	var key jose.JSONWebKey
	if err := json.Unmarshal(raw, &key); err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("%s: %w", path, err)
	}
	if !key.Valid() || key.IsPublic() {
		return jose.JSONWebKey{}, fmt.Errorf("%s: not a private key", path)
	}
	return key, nil
}

// publish adds a public key to the JWKS.
func publish(dir string, key jose.JSONWebKey) error {
	path := filepath.Join(dir, KeysFile)
	var set jose.JSONWebKeySet
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the directory
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(raw, &set); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if slices.ContainsFunc(set.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == key.KeyID }) {
		return nil
	}
	set.Keys = append(set.Keys, key)
	out, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return replace(path, append(out, '\n'), 0o644)
}

// replace writes a file so that nobody reads half of it.
func replace(path string, data []byte, mode os.FileMode) error {
	next := path + ".next"
	if err := os.WriteFile(next, data, mode); err != nil {
		return err
	}
	if err := os.Chmod(next, mode); err != nil { // it may have been there
		return err
	}
	return os.Rename(next, path)
}

// WriteToken writes a token into a file that only its owner reads.
func WriteToken(path, token string) error { return replace(path, []byte(token+"\n"), 0o600) }

// Order says what token to issue.
type Order struct {
	Subject  string
	Scopes   []string
	For      time.Duration
	Issuer   string
	Audience []string
}

// Validate reports every error of the order, joined.
func (o Order) Validate() error {
	var errs []error
	if !goodSubject(o.Subject) {
		errs = append(errs, fmt.Errorf("%w: subject: must have 1 to %d printable bytes", ErrIssue, maxSubject))
	}
	for _, s := range o.Scopes {
		if !slices.Contains(access.Scopes(), s) {
			errs = append(errs, fmt.Errorf("%w: scope %q: there are %s", ErrIssue, s, strings.Join(access.Scopes(), ", ")))
		}
	}
	if o.For <= 0 {
		errs = append(errs, fmt.Errorf("%w: for: is %s, must be above 0", ErrIssue, o.For))
	}
	return errors.Join(errs...)
}

// Issue signs a token with the key of a directory.
func Issue(dir string, o Order) (string, error) {
	if err := o.Validate(); err != nil {
		return "", err
	}
	key, err := signingKey(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %w: `tidemark token keys --keys %s` makes it", ErrIssue, err, dir)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrIssue, err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrIssue, err)
	}
	now := time.Now()
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: o.Issuer, Subject: o.Subject, Audience: o.Audience, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(o.For)), ID: rand.Text(),
	}).Claims(struct {
		Scope string `json:"scope"`
	}{strings.Join(o.Scopes, " ")}).Serialize()
}
