package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/internal/httpapi"
)

func TestAdminIsForTheMachineItself(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":6060", "192.0.2.1:6060", "example.com:1", "nonsense"} {
		if _, err := httpapi.ListenAdmin(t.Context(), addr); !errors.Is(err, httpapi.ErrNotLoopback) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	a, err := httpapi.ListenAdmin(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	if status, _, body := do(t, http.MethodGet, a.URL()+"goroutine?debug=1", nil); status != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("%d %.100s", status, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
