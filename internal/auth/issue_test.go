package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/pkg/events/access"
)

func TestKeysAndTokensForDemonstrations(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := auth.MakeKeys(dir, dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := auth.MakeKeys(dir, dir, false); err != nil || again != first {
		t.Errorf("keys that are there: %q, %v; want %q", again, err, first)
	}
	for file, want := range map[string]os.FileMode{auth.SigningKeyFile: 0o600, auth.KeysFile: 0o644} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, auth.KeysFile))
	if err != nil || strings.Contains(string(public), `"d"`) {
		t.Errorf("the public keys hold a secret, or %v:\n%s", err, public)
	}
	order := auth.Order{Subject: "ann", Scopes: []string{access.OrdersRead}, For: time.Minute, Issuer: "demo", Audience: []string{"tidemark"}}
	old, err := auth.Issue(dir, order)
	if err != nil {
		t.Fatal(err)
	}
	second, err := auth.MakeKeys(dir, dir, true)
	if err != nil || second == first {
		t.Fatalf("rotated to %q, %v", second, err)
	}
	fresh, err := auth.Issue(dir, order)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewKeys(auth.KeysConfig{From: filepath.Join(dir, auth.KeysFile)})
	if err != nil {
		t.Fatal(err)
	}
	v := auth.NewVerifier(auth.Config{Issuer: "demo", Audience: "tidemark"}, keys)
	for name, token := range map[string]string{"before": old, "after": fresh} {
		if c, err := v.Verify(t.Context(), token); err != nil || c.Subject != "ann" || len(c.Scopes) != 1 {
			t.Errorf("signed %s the rotation: %+v, %v", name, c, err)
		}
	}
}

func TestWhatIsNotIssued(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := auth.Order{Subject: "ann", For: time.Minute}
	if _, err := auth.Issue(dir, good); !errors.Is(err, auth.ErrIssue) || !strings.Contains(err.Error(), "tidemark token keys") {
		t.Errorf("without keys: %v", err)
	}
	if _, err := auth.MakeKeys(dir, dir, false); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]auth.Order{
		"nobody": {For: time.Minute}, "a misspelt scope": {Subject: "ann", Scopes: []string{"order:write"}, For: time.Minute}, "no time": {Subject: "ann"},
	} {
		if _, err := auth.Issue(dir, o); !errors.Is(err, auth.ErrIssue) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, auth.SigningKeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Issue(dir, good); err == nil || !strings.Contains(err.Error(), "others") {
		t.Errorf("a key that everybody can read: %v", err)
	}
}
