package e2e_test

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/target"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// localDeadline is short enough to wait for, and long enough for a service to be killed and taken over.
const localDeadline = 15 * time.Second

func services() []string { return []string{"order", "inventory", "notify", "analytics"} }

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
	url, broker, again := startBroker(t)
	return inProcessesAt(t, env, place{url: url, broker: broker, again: again})
}

// place is a broker in a process of its own, and the flags that up reaches it with.
type place struct {
	url    string
	broker *process
	again  func() *process
	flags  []string
}

func inProcessesAt(t *testing.T, env []string, nats place) *target.Target {
	t.Helper()
	args := append([]string{"--nats", nats.url, "--without", strings.Join(services(), ","), "--order-deadline", localDeadline.String(), "--idle", "1s"}, nats.flags...)
	addrs := make(map[string][2]string) // of each service's two instances, one of which runs, and both while one replaces the other
	for _, name := range services() {
		addrs[name] = [2]string{freeAddr(t), freeAddr(t)}
		args = append(args, "--at", name+"="+addrs[name][0]+","+addrs[name][1])
	}
	u := startUpWith(t, env, filepath.Join(t.TempDir(), "data"), args...)
	at := targetOf(t, u)
	at.Name, at.Overlap = "processes", true
	for line := range strings.Lines(u.printed()) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "go run ./cmd/"); ok {
			command := strings.Fields(rest)
			s := &served{t: t, env: env, command: command, addrs: addrs[command[0]]}
			s.now = s.run()
			at.Parts = append(at.Parts, s.part())
		}
	}
	if len(at.Parts) != len(services()) {
		t.Fatalf("up does not print how to run %v:\n%s", services(), u.printed())
	}
	front := u.part(t)
	front.Name = "front"
	at.Parts = append(at.Parts, nats.broker.part("broker", nats.again), front)
	for name, both := range addrs {
		eventstest.Eventually(t, time.Minute, "every service is ready", func() bool { return get(t, "http://"+both[0]+"/readyz", nil) == http.StatusOK })
		if status := get(t, "http://"+both[0]+"/v1/deadletters", nil); status != http.StatusOK {
			t.Errorf("%s answers %d about dead letters", name, status)
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

// served is a service in a process of its own. It has two addresses, so that a new instance can be there before the old one goes.
type served struct {
	t       *testing.T
	env     []string
	command []string // as `up` prints it, with the first address
	addrs   [2]string
	at      int // index of the address of now
	now     *process
}

func (s *served) run() *process {
	args := slices.Clone(s.command[1:])
	for i, arg := range args {
		if arg == s.addrs[0] {
			args[i] = s.addrs[s.at]
		}
	}
	return startWith(s.t, s.env, s.command[0], args...)
}

func (s *served) part() target.Part {
	return target.Part{
		Name:  s.command[0],
		Kill:  func(ctx context.Context) error { return s.now.killed(ctx) },
		Stop:  func(context.Context) error { return s.now.terminate() },
		Start: func(context.Context) error { s.now = s.run(); return nil },
		Roll:  s.roll,
	}
}

// roll is what an orchestrator does: it starts a new instance, waits until that is ready, and ends the old one.
func (s *served) roll(context.Context) error {
	old := s.now
	s.at = 1 - s.at
	s.now = s.run()
	eventstest.Eventually(s.t, time.Minute, "the new instance is ready", func() bool { return get(s.t, "http://"+s.addrs[s.at]+"/readyz", nil) == http.StatusOK })
	return old.terminate()
}
