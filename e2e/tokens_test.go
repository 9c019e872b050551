package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/auth/authtest"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

var pathParameter = regexp.MustCompile(`\{[^}]*\}`)

// TestEachProgramAsksForTokens sends every bad token that we know of to every operation of each service's own program. That of `up`, route by route and scope by scope, is tested in internal/system.
func TestEachProgramAsksForTokens(t *testing.T) {
	t.Parallel()
	issuer := authtest.New(t)
	env := []string{"TIDEMARK_JWKS=" + issuer.File(), "TIDEMARK_JWT_ISSUER=" + authtest.Name, "TIDEMARK_JWT_AUDIENCE=" + authtest.Audience}
	args := []string{"--without", strings.Join(services(), ",")}
	addrs := make(map[string]string)
	for _, name := range services() {
		addrs[name] = freeAddr(t)
		args = append(args, "--at", name+"="+addrs[name])
	}
	u := startUpWith(t, nil, filepath.Join(t.TempDir(), "data"), args...)
	started := 0
	for line := range strings.Lines(u.printed()) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "go run ./cmd/"); ok {
			command := strings.Fields(rest)
			startWith(t, env, command[0], command[1:]...)
			started++
		}
	}
	if started != len(services()) {
		t.Fatalf("up does not print how to run %v:\n%s", services(), u.printed())
	}
	all := issuer.Token("ann", access.Scopes()...)
	for _, name := range services() {
		base := "http://" + addrs[name]
		eventstest.Eventually(t, time.Minute, name+" is ready", func() bool { return get(t, base+"/readyz", nil) == http.StatusOK })
		_, description := ask(t, http.MethodGet, base+"/openapi.json", authtest.Header(all))
		var api struct {
			Paths map[string]map[string]any `json:"paths"`
		}
		if err := json.Unmarshal([]byte(description), &api); err != nil || len(api.Paths) == 0 {
			t.Fatalf("%s describes its API as %q: %v", name, description, err)
		}
		asked := 0
		for path, operations := range api.Paths {
			for method := range operations {
				method, url := strings.ToUpper(method), base+pathParameter.ReplaceAllString(path, "x")
				refused := func(what string, header http.Header, want int) {
					t.Helper()
					res, body := ask(t, method, url, header)
					if res.StatusCode != want || res.Header.Get("Content-Type") != "application/problem+json" || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer ") {
						t.Errorf("%s %s of %s, %s: %d %v %s, want %d", method, path, name, what, res.StatusCode, res.Header, body, want)
					}
				}
				refused("no token", nil, http.StatusUnauthorized)
				refused("no scope", authtest.Header(issuer.Token("ann")), http.StatusForbidden)
				for _, bad := range issuer.BadTokens() {
					refused(bad.Name, authtest.Header(bad.Token), http.StatusUnauthorized)
				}
				asked++
			}
		}
		if asked < 2 {
			t.Errorf("%s was asked for %d operations", name, asked)
		}
	}
}

// ask waits for the head of an answer, and reads an answer that ends.
func ask(t *testing.T, method, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}
