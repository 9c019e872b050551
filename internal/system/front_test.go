package system

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/internal/telemetry"
)

// TestTheFrontPassesEverythingOn compares what all services have in one process with what is passed on when they run elsewhere: callers must not notice.
func TestTheFrontPassesEverythingOn(t *testing.T) {
	t.Parallel()
	provider, err := telemetry.New(telemetry.Config{LogLevel: "warn", Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	const anyPort = "127.0.0.1:0"
	s, err := New(Config{HTTP: anyPort, Dir: t.TempDir(), NATSAddr: anyPort, GatewayAddr: anyPort, MailAddr: anyPort, Version: "test", Provider: provider})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	s.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/openapi.json", nil))
	var document struct{ Paths map[string]any }
	if err := json.Unmarshal(answer.Body.Bytes(), &document); err != nil || len(document.Paths) < 20 {
		t.Fatalf("%v, %d paths", err, len(document.Paths))
	}
	var passed []string
	for _, name := range Services() {
		passed = append(append(passed, paths(name)...), operatorPaths(name)...)
	}
	own := []string{"/v1/outbox", "/v1/outbox/", "/v1/deadletters", "/v1/deadletters/"} // the front has these itself, wherever the services are
	for path := range document.Paths {
		path = strings.Replace(path, "{name}", "orders", 1) // the one read model that has versions
		if !within(path, passed) && !within(path, own) {
			t.Errorf("%s is of a service and is not passed on", path)
		}
	}
}

func within(path string, patterns []string) bool {
	for _, p := range patterns {
		if path == p || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}
