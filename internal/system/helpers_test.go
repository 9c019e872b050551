package system_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/system"
	"github.com/tidemark/tidemark/internal/telemetry"
)

const patience = time.Minute

// running is a system in this process.
type running struct {
	*client.Client
	tb     testing.TB
	cancel context.CancelFunc
	ended  chan error
	out    *output
	once   sync.Once
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func config(tb testing.TB, dir string, out *output) system.Config {
	tb.Helper()
	provider, err := telemetry.New(telemetry.Config{LogLevel: "warn", Output: out})
	if err != nil {
		tb.Fatal(err)
	}
	const anyPort = "127.0.0.1:0"
	return system.Config{
		HTTP: anyPort, Dir: dir, NATSAddr: anyPort, GatewayAddr: anyPort, MailAddr: anyPort, Version: "test", Out: out, Provider: provider,
	}
}

// start runs a system on a data directory until it is ready. It ends with the test at the latest.
func start(tb testing.TB, dir string, change ...func(*system.Config)) *running {
	tb.Helper()
	out := new(output)
	cfg := config(tb, dir, out)
	for _, c := range change {
		c(&cfg)
	}
	s, err := system.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{tb: tb, cancel: cancel, ended: make(chan error, 1), out: out}
	go func() { r.ended <- s.Run(ctx) }()
	tb.Cleanup(r.stop)
	select {
	case <-s.Ready():
	case err := <-r.ended:
		r.ended <- err
		tb.Fatalf("ended before it was ready: %v\n%s", err, out)
	case <-time.After(patience):
		tb.Fatalf("not ready after %s\n%s", patience, out)
	}
	if r.Client, err = client.New(client.Config{URL: s.URL()}); err != nil {
		tb.Fatal(err)
	}
	return r
}

func (r *running) stop() {
	r.once.Do(func() {
		if r.Client != nil {
			r.Close()
		}
		r.cancel()
		if err := <-r.ended; err != nil {
			r.tb.Errorf("ended with %v\n%s", err, r.out)
		}
		// Every part connects as its own user of the broker: whatever a test lets it do, it must be allowed to.
		if strings.Contains(r.out.String(), "does not allow") {
			r.tb.Errorf("the broker denies a part of the system what it needs:\n%s", r.out)
		}
	})
}
