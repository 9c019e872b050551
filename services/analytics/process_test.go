package analytics

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
)

// childEnv holds, as JSON, what a child is: the test's binary runs itself again as one instance of the service.
const childEnv = "TIDEMARK_ANALYTICS_CHILD"

// child is one process. It lives until it is killed, or its standard input ends.
type child struct {
	URL        string
	Partitions int
	Step       int
	Default    Settings

	Stage stage // where it does what Does says
	Nth   int   // the how many-th time it comes there; 0: never
	Does  string
	Stall time.Duration
}

// What a child does at its stage.
const (
	dies   = "dies"   // by SIGKILL
	stops  = "stops"  // by SIGSTOP, until somebody wakes it up
	stalls = "stalls" // for its time
)

func runChild(role string) error {
	var c child
	if err := json.Unmarshal([]byte(role), &c); err != nil {
		return err
	}
	nc, err := nats.Connect(c.URL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		return err
	}
	defer nc.Close()
	registry, err := events.NewRegistry()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	svc, err := New(Config{Queries: testQueries(), Default: &c.Default, step: c.Step},
		Deps{NATS: nc, Topology: childTopology(c.Partitions), Registry: registry, Telemetry: bus.Telemetry{Logger: log}})
	if err != nil {
		return err
	}
	hits := 0
	svc.worker.fault = func(at stage) error {
		if at == c.Stage {
			hits++
		}
		if at == c.Stage && hits == c.Nth {
			c.strike()
		}
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-svc.Ready()
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return svc.Run(ctx)
}

// testQueries are all that there are; sessions end after a minute, so that a short log has many of them.
func testQueries() []Query {
	qs := DefaultQueries()
	for i := range qs {
		if qs[i].Name == "customer-sessions" {
			qs[i].Windows = window.Session(time.Minute)
		}
	}
	return qs
}

func (c *child) strike() {
	switch c.Does {
	case dies:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // not a step further
	case stops:
		awake := make(chan os.Signal, 1)
		signal.Notify(awake, syscall.SIGCONT)
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-awake // the signal may reach another thread first, and this one would go on for a moment
	case stalls:
		fmt.Println("stalls")
		pause(context.Background(), c.Stall)
	}
}

// childTopology has short memories, and pins that are given up soon.
func childTopology(partitions int) events.Topology {
	t := events.DefaultTopology(partitions)
	shortMemory(&t)
	for i := range t.Groups {
		t.Groups[i].PinnedTTL = time.Second
	}
	return t
}

// process is a child as its parent sees it.
type process struct {
	tb    testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	log   lockedBuffer
	said  sync.Map // lines of its standard output
	ended chan struct{}
	err   error
	end   sync.Once
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var children atomic.Int32

// spawn starts a child. It is gone at the end of the test, however that ends.
func (s *shop) spawn(c child) *process {
	s.tb.Helper()
	c.URL = s.server.URL()
	role, err := json.Marshal(c)
	if err != nil {
		s.tb.Fatal(err)
	}
	p := &process{tb: s.tb, cmd: exec.Command(os.Args[0]), ended: make(chan struct{})} //nolint:gosec,noctx // ourselves; it ends below
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(role))
	p.cmd.Stderr = &p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		s.tb.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		s.tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	n := children.Add(1)
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.said.Store(lines.Text(), true)
		}
		p.err = p.cmd.Wait()
	}()
	s.tb.Cleanup(func() {
		if s.tb.Failed() {
			p.dump()
		}
		p.kill()
		if s.tb.Failed() {
			s.tb.Logf("child %d (%s):\n%s", n, role, p.log.String())
		}
	})
	return p
}

// kill ends the process if it still runs.
func (p *process) kill() {
	p.end.Do(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
}

// dump lets a process that still runs end with what its goroutines do.
func (p *process) dump() {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
	}
}

// stop lets the process end cleanly.
func (p *process) stop() {
	p.tb.Helper()
	_ = p.stdin.Close()
	select {
	case <-p.ended:
		if p.err != nil {
			p.tb.Errorf("a clean stop: %v", p.err)
		}
	case <-time.After(patience):
		p.tb.Error("the process does not stop")
	}
	p.kill()
}

// awaitDeath waits until the process has killed itself.
func (p *process) awaitDeath(what string) {
	p.tb.Helper()
	select {
	case <-p.ended:
	case <-time.After(2 * patience):
		p.tb.Fatalf("%s: the process does not die\n%s", what, p.log.String())
	}
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) {
		p.tb.Fatalf("%s: ended with %v", what, p.err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		p.tb.Fatalf("%s: ended with %v, not by SIGKILL\n%s", what, p.err, p.log.String())
	}
}

func (p *process) has(line string) bool {
	_, said := p.said.Load(line)
	return said
}

func (p *process) logged(text string) bool { return strings.Contains(p.log.String(), text) }
