package system

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// instance is a server whose readiness a test decides.
type instance struct {
	*httptest.Server
	ready atomic.Bool
}

func startInstance(t *testing.T, ready bool) *instance {
	t.Helper()
	i := &instance{}
	i.ready.Store(ready)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !i.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *instance) addr() string { return strings.TrimPrefix(i.URL, "http://") }

// TestRequestsGoToAReadyInstance walks through two rolling updates: the instance that serves is kept for as long as it is ready, however many others are.
func TestRequestsGoToAReadyInstance(t *testing.T) {
	t.Parallel()
	a, b := startInstance(t, false), startInstance(t, false)
	at := newBackends("order", a.addr()+","+b.addr(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- at.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	is := func(what string, want *instance) {
		t.Helper()
		at.failed()
		eventstest.Eventually(t, time.Minute, what, func() bool { return at.addr() == want.addr() })
	}
	if at.addr() != a.addr() {
		t.Errorf("where nothing is ready, requests go to %s, want the first, %s", at.addr(), a.addr())
	}
	b.ready.Store(true)
	is("the one that is ready is asked", b)
	a.ready.Store(true)
	at.look(ctx)
	is("it is asked still", b)
	b.ready.Store(false)
	is("it stops, and the other one is asked", a)
	b.Close()
	at.look(ctx)
	is("it has gone", a)
	a.ready.Store(false)
	at.look(ctx)
	is("nothing is ready, and the last one is asked", a)
}

func TestAHostMayHaveSeveralAddresses(t *testing.T) {
	t.Parallel()
	a := startInstance(t, true)
	_, port, _ := strings.Cut(a.addr(), ":")
	at := newBackends("order", "no-such-host.invalid:1,localhost:"+port, slog.New(slog.DiscardHandler))
	at.look(t.Context())
	if at.addr() != a.addr() {
		t.Errorf("requests go to %s, want %s", at.addr(), a.addr())
	}
}
