package client_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/internal/client"
)

// A token is for the address that was asked, and goes nowhere else.
func TestTokenIsNotCarriedElsewhere(t *testing.T) {
	t.Parallel()
	var elsewhere []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Header.Get("Authorization"))
	}))
	t.Cleanup(other.Close)
	var got string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(api.Close)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, token := range map[string]client.Token{"Bearer fixed": client.FixedToken(" fixed\n"), "Bearer from-file": client.FileToken(path), "": client.FixedToken("")} {
		c, err := client.New(client.Config{URL: api.URL, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.System(t.Context()); client.StatusOf(err) != http.StatusTemporaryRedirect || got != want {
			t.Errorf("sent %q, want %q; %v", got, want, err)
		}
		c.Close()
	}
	if len(elsewhere) > 0 {
		t.Errorf("the redirect was followed: %q", elsewhere)
	}
	c, err := client.New(client.Config{URL: api.URL, Token: client.FixedToken("two words")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.System(t.Context()); err == nil || strings.Contains(err.Error(), "two words") {
		t.Errorf("a token that is none: %v", err)
	}
}
