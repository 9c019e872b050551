package system

import (
	"context"
	"io"
	"reflect"
	"testing"

	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/telemetry"
)

// TestTheFrontPassesEverythingOn compares what all services answer in one process with what is passed on when they run elsewhere, and who may ask for it: callers must not notice.
func TestTheFrontPassesEverythingOn(t *testing.T) {
	t.Parallel()
	together, apart := routes(t), routes(t, Services()...)
	if len(together) < 40 || !reflect.DeepEqual(together, apart) {
		t.Errorf("in one process:\n%v\npassed on:\n%v", together, apart)
	}
}

// routes are what a system answers that runs without some services.
func routes(t *testing.T, without ...string) []httpapi.Route {
	t.Helper()
	provider, err := telemetry.New(telemetry.Config{LogLevel: "error", Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	const anyPort = "127.0.0.1:0"
	s, err := New(Config{HTTP: anyPort, Dir: t.TempDir(), NATSAddr: anyPort, GatewayAddr: anyPort, MailAddr: anyPort, Without: without, Version: "test", Provider: provider})
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
	return s.server.Routes()
}
