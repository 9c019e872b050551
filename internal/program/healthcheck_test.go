package program_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/internal/program"
)

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		want   error
	}{
		"ready":        {http.StatusOK, nil},
		"starting":     {http.StatusServiceUnavailable, program.ErrNotReady},
		"no such page": {http.StatusNotFound, program.ErrNotReady},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan string, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r.URL.Path
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(`{"status":"told"}`))
			}))
			defer server.Close()
			addr := strings.TrimPrefix(server.URL, "http://")
			err := program.Healthcheck(t.Context(), addr)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "told") {
				t.Errorf("%v does not say what the program said", err)
			}
			if path := <-asked; path != "/readyz" {
				t.Errorf("asked %s", path)
			}
			// What a container is told is to listen everywhere.
			_, port, _ := strings.Cut(addr, ":")
			for _, everywhere := range []string{"0.0.0.0:", ":"} {
				if err := program.Healthcheck(t.Context(), everywhere+port); (err == nil) != (c.want == nil) {
					t.Errorf("%s: %v", everywhere, err)
				}
				<-asked
			}
		})
	}
}

func TestHealthcheckOfNobody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	addr := strings.TrimPrefix(server.URL, "http://")
	server.Close()
	if err := program.Healthcheck(t.Context(), addr); err == nil || errors.Is(err, program.ErrUsage) {
		t.Errorf("nobody listens: %v", err)
	}
	if err := program.Healthcheck(t.Context(), "8080"); !errors.Is(err, program.ErrUsage) {
		t.Errorf("no port: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := program.Healthcheck(ended, addr); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}
