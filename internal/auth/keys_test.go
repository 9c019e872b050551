package auth_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/internal/auth/authtest"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// provider serves a JWKS, and counts who asks.
type provider struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[func(http.ResponseWriter, *http.Request)]
}

func serve(t *testing.T, document []byte) *provider {
	t.Helper()
	p := &provider{}
	p.publish(document)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		(*p.answer.Load())(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) does(f func(http.ResponseWriter, *http.Request)) { p.answer.Store(&f) }

func (p *provider) publish(document []byte) {
	p.does(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(document) })
}

// running are keys that are read while the test runs.
func running(t *testing.T, cfg auth.KeysConfig) *auth.Keys {
	t.Helper()
	keys, err := auth.NewKeys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- keys.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return keys
}

func TestKeysAreRotatedWithoutARestart(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	p := serve(t, authtest.Document(t, i.EC.Public()))
	keys := running(t, auth.KeysConfig{From: p.URL, Refresh: time.Hour, Pause: time.Millisecond})
	<-keys.Ready()
	v := auth.NewVerifier(auth.Config{}, keys)
	next := authtest.ECKey(t)
	token := i.Sign(authtest.Claims("ann"), jose.ES256, next, nil)
	p.publish(authtest.Document(t, i.EC.Public(), next.Public()))
	waitAMoment(t)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
	if _, err := v.Verify(t.Context(), i.Token("ann")); err != nil {
		t.Errorf("a token of the old key: %v", err)
	}
}

// public is the public part of another key.
func public(t *testing.T) jose.JSONWebKey {
	t.Helper()
	key := authtest.ECKey(t)
	return key.Public()
}

// waitAMoment lets the shortest pause between two attempts pass.
func waitAMoment(t *testing.T) {
	t.Helper()
	timer := time.NewTimer(5 * time.Millisecond)
	<-timer.C
}

// Whoever sends tokens with made-up keys must not make us a burden to the provider, nor us wait for it each time.
func TestTokensCantMakeUsAsk(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	p := serve(t, authtest.Document(t, i.EC.Public()))
	keys := running(t, auth.KeysConfig{From: p.URL, Refresh: time.Hour, Pause: time.Hour})
	<-keys.Ready()
	v := auth.NewVerifier(auth.Config{}, keys)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			other := authtest.ECKey(t)
			if _, err := v.Verify(t.Context(), i.Sign(authtest.Claims("ann"), jose.ES256, other, nil)); !errors.Is(err, auth.UnknownKey) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
}

// Many tokens of a new key come at once: one attempt serves all of them.
func TestOneAttemptForAll(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	p := serve(t, authtest.Document(t, i.EC.Public()))
	keys := running(t, auth.KeysConfig{From: p.URL, Refresh: time.Hour, Pause: 200 * time.Millisecond})
	<-keys.Ready()
	v := auth.NewVerifier(auth.Config{}, keys)
	next := authtest.ECKey(t)
	token := i.Sign(authtest.Claims("ann"), jose.ES256, next, nil)
	p.publish(authtest.Document(t, next.Public()))
	timer := time.NewTimer(250 * time.Millisecond) // the pause
	<-timer.C
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.asked.Load(); n != 2 {
		t.Errorf("the provider was asked %d times, want twice", n)
	}
}

func TestLastGoodKeysAreKept(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	symmetric := jose.JSONWebKey{Key: []byte("not so secret as one may think"), KeyID: i.EC.KeyID, Algorithm: string(jose.HS256)}
	elsewhere := serve(t, authtest.Document(t, public(t)))
	for name, does := range map[string]func(http.ResponseWriter, *http.Request){
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"no JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no keys":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"a secret": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(authtest.Document(t, symmetric)) },
		"far too much": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":["` + strings.Repeat("x", 1<<20)))
		},
		"another place":       func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"nothing, for a time": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, authtest.Document(t, i.EC.Public()))
			keys := running(t, auth.KeysConfig{From: p.URL, Refresh: 5 * time.Millisecond, Timeout: 50 * time.Millisecond})
			<-keys.Ready()
			p.does(does)
			for from := p.asked.Load(); p.asked.Load() < from+3; {
				waitAMoment(t)
			}
			if _, err := auth.NewVerifier(auth.Config{}, keys).Verify(t.Context(), i.Token("ann")); err != nil {
				t.Errorf("the keys from before are gone: %v", err)
			}
		})
	}
	if n := elsewhere.asked.Load(); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

// A provider that is down at the start is waited for, and until then nobody is let in.
func TestProviderComesLater(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	p := serve(t, nil)
	keys := running(t, auth.KeysConfig{From: p.URL, Refresh: 20 * time.Millisecond, Pause: time.Millisecond})
	v := auth.NewVerifier(auth.Config{}, keys)
	if _, err := v.Verify(t.Context(), i.Token("ann", access.Operator)); !errors.Is(err, auth.ErrUnavailable) || v.Healthy() == nil {
		t.Errorf("without keys: %v, healthy: %v", err, v.Healthy())
	}
	p.publish(authtest.Document(t, i.EC.Public()))
	<-keys.Ready()
	if _, err := v.Verify(t.Context(), i.Token("ann", access.Operator)); err != nil || v.Healthy() != nil {
		t.Errorf("with keys: %v, healthy: %v", err, v.Healthy())
	}
}

func TestKeysOfAFile(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	keys := running(t, auth.KeysConfig{From: i.File(), Refresh: 5 * time.Millisecond})
	v := auth.NewVerifier(auth.Config{}, keys)
	token := i.Token("ann")
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	i.Publish(public(t)) // the key is taken back
	for {
		if _, err := v.Verify(t.Context(), token); errors.Is(err, auth.UnknownKey) {
			break
		}
		waitAMoment(t)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	i := authtest.New(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // that is the point
	if err != nil {
		t.Fatal(err)
	}
	own := i.EC.Public()
	for name, c := range map[string]struct {
		document []byte
		says     string
	}{
		"empty":                      {nil, "not a JWKS"},
		"no keys":                    {[]byte(`{"keys":[]}`), "no key"},
		"half of a document":         {authtest.Document(t)[:1], "not a JWKS"},
		"a private key":              {authtest.Document(t, i.EC), "secret"},
		"a shared secret":            {authtest.Document(t, jose.JSONWebKey{Key: []byte("hunter2")}), "secret"},
		"a key for something else":   {authtest.Document(t, jose.JSONWebKey{Key: own.Key, Use: "enc"}), "no key"},
		"a key of another algorithm": {authtest.Document(t, jose.JSONWebKey{Key: own.Key, Algorithm: "ES384"}), "no key"},
		"a key that is too short":    {authtest.Document(t, jose.JSONWebKey{Key: small.Public()}), "no key"},
		"kinds that nobody knows":    {[]byte(`{"keys":[{"kty":"XYZ"},{"kty":"EC","crv":"secp256k1"},7]}`), "no key"},
		"too many":                   {[]byte(`{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`), "more than 100"},
	} {
		path := filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(path, c.document, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.NewKeys(auth.KeysConfig{From: path}); !errors.Is(err, auth.ErrKeys) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	for _, from := range []string{"", "/nowhere/jwks.json", "http://issuer.example/jwks.json", "ftp://127.0.0.1/jwks.json", "https://", "file:///etc/passwd"} {
		if _, err := auth.NewKeys(auth.KeysConfig{From: from}); !errors.Is(err, auth.ErrKeys) {
			t.Errorf("%q: %v", from, err)
		}
	}
}
