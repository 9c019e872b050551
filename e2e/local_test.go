package e2e_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/target"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// localDeadline is short enough to wait for, and long enough for a service to be killed and taken over.
const localDeadline = 15 * time.Second

// inOneProcess is `tidemark up`.
func inOneProcess(t *testing.T) *target.Target {
	t.Helper()
	return inOneProcessWith(t, nil)
}

func inOneProcessWith(t *testing.T, env []string) *target.Target {
	t.Helper()
	u := startUpWith(t, env, filepath.Join(t.TempDir(), "data"), "--order-deadline", localDeadline.String(), "--idle", "1s")
	at := targetOf(t, u)
	at.Name = "tidemark up"
	at.Parts = []target.Part{u.part(t)}
	return at
}

// inProcesses is nats-server and each service as a process of its own, with `tidemark up` before them.
func inProcesses(t *testing.T) *target.Target {
	t.Helper()
	return inProcessesWith(t, nil)
}

func inProcessesWith(t *testing.T, env []string) *target.Target {
	t.Helper()
	natsURL, broker, again := startBroker(t)
	services := []string{"order", "inventory", "notify", "analytics"}
	args := []string{"--nats", natsURL, "--without", strings.Join(services, ","), "--order-deadline", localDeadline.String(), "--idle", "1s"}
	var addrs []string
	for _, name := range services {
		addrs = append(addrs, freeAddr(t))
		args = append(args, "--at", name+"="+addrs[len(addrs)-1])
	}
	u := startUpWith(t, env, filepath.Join(t.TempDir(), "data"), args...)
	at := targetOf(t, u)
	at.Name = "processes"
	for line := range strings.Lines(u.printed()) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "go run ./cmd/"); ok {
			command := strings.Fields(rest)
			start := func() *process { return startWith(t, env, command[0], command[1:]...) }
			at.Parts = append(at.Parts, start().part(command[0], start))
		}
	}
	if len(at.Parts) != len(services) {
		t.Fatalf("up does not print how to run %v:\n%s", services, u.printed())
	}
	front := u.part(t)
	front.Name = "front"
	at.Parts = append(at.Parts, broker.part("broker", again), front)
	for _, addr := range addrs {
		eventstest.Eventually(t, time.Minute, "every service is ready", func() bool { return get(t, "http://"+addr+"/readyz", nil) == http.StatusOK })
		if status := get(t, "http://"+addr+"/v1/deadletters", nil); status != http.StatusOK {
			t.Errorf("the service at %s answers %d about dead letters", addr, status)
		}
	}
	return at
}

// targetOf is what `up` tells of itself.
func targetOf(t *testing.T, u *up) *target.Target {
	t.Helper()
	var where struct {
		Gateway string `json:"gateway_url"`
	}
	if status := get(t, u.url+"/v1/system", &where); status != http.StatusOK || where.Gateway == "" {
		t.Fatalf("/v1/system answers %d and %+v", status, where)
	}
	return &target.Target{
		API: u.url, Gateway: where.Gateway, Program: filepath.Join(bin, "tidemark"), Env: []string{"TIDEMARK_URL=" + u.url}, Broker: true, Deadline: localDeadline,
	}
}

// part is a process that can be killed and started again.
func (p *process) part(name string, start func() *process) target.Part {
	now := p
	return target.Part{
		Name:  name,
		Kill:  func(ctx context.Context) error { return now.killed(ctx) },
		Stop:  func(context.Context) error { now.stop(); return nil },
		Start: func(context.Context) error { now = start(); return nil },
	}
}

func (p *process) killed(context.Context) error {
	p.kill()
	return nil
}

// part is the whole of `up`.
func (u *up) part(t *testing.T) target.Part {
	t.Helper()
	return target.Part{
		Name:  "tidemark",
		Kill:  func(ctx context.Context) error { return u.killed(ctx) },
		Stop:  func(context.Context) error { u.stop(); return nil },
		Start: func(context.Context) error { u.again(t); return nil },
	}
}
