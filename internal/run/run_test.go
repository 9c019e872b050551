package run_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// part is a component that records when it stopped.
type part struct {
	name  string
	ready chan struct{}
	fail  chan error
	log   *journal
}

type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func newPart(j *journal, name string) part {
	ready := make(chan struct{})
	close(ready)
	return part{name: name, ready: ready, fail: make(chan error, 1), log: j}
}

func (p part) Ready() <-chan struct{} { return p.ready }

func (p part) Run(ctx context.Context) error {
	select {
	case err := <-p.fail:
		return err
	case <-ctx.Done():
		p.log.add(p.name)
		return nil
	}
}

func TestStagesStopInReverse(t *testing.T) {
	t.Parallel()
	j := &journal{}
	ctx, cancel := context.WithCancel(t.Context())
	broker, service := newPart(j, "broker"), newPart(j, "service")
	err := run.Stages(ctx, time.Second, cancel, []run.Part{{Name: "broker", Component: broker}}, []run.Part{{Name: "service", Component: service}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"service", "broker"}; !slices.Equal(j.lines, want) {
		t.Errorf("stopped in the order %v, want %v", j.lines, want)
	}
}

func TestOneFailureStopsAll(t *testing.T) {
	t.Parallel()
	j := &journal{}
	boom := errors.New("boom")
	broker, service := newPart(j, "broker"), newPart(j, "service")
	service.fail <- boom
	err := run.Stages(t.Context(), time.Second, func() {}, []run.Part{{Name: "broker", Component: broker}}, []run.Part{{Name: "service", Component: service}})
	if !errors.Is(err, boom) {
		t.Errorf("error is %v, want %v", err, boom)
	}
	if want := []string{"broker"}; !slices.Equal(j.lines, want) {
		t.Errorf("stopped %v, want %v", j.lines, want)
	}
}

func TestStopBudget(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	stubborn := run.Part{Name: "stubborn", Component: run.NewBoot(func(context.Context) (run.Component, error) {
		<-release // does not look at its context
		return nil, errors.New("released")
	})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run.All(ctx, 10*time.Millisecond, stubborn); err == nil {
		t.Error("a part that does not stop is not reported")
	}
	close(release)
}

func TestEndingByItselfIsAFailure(t *testing.T) {
	t.Parallel()
	p := newPart(&journal{}, "p")
	p.fail <- nil
	if err := run.All(t.Context(), time.Second, run.Part{Name: "p", Component: p}); err == nil {
		t.Error("a part that ends while nobody asked is not reported")
	}
}

func TestReadyNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	waiting := run.NewBoot(func(ctx context.Context) (run.Component, error) { return nil, ctx.Err() })
	ready := newPart(&journal{}, "ready")
	got := run.NotReady([]run.Part{{Name: "waiting", Component: waiting}, {Name: "ready", Component: ready}})
	if want := []string{"waiting"}; !slices.Equal(got, want) {
		t.Errorf("not ready: %v, want %v", got, want)
	}
}

func TestFrontStopsFirst(t *testing.T) {
	t.Parallel()
	j := &journal{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run.Front(ctx, run.Part{Name: "http", Component: newPart(j, "http")}, time.Second, time.Second, run.Part{Name: "service", Component: newPart(j, "service")}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"http", "service"}; !slices.Equal(j.lines, want) {
		t.Errorf("stopped in the order %v, want %v", j.lines, want)
	}
	boom := errors.New("boom")
	for _, broken := range []string{"http", "service"} {
		http, service := newPart(j, "http"), newPart(j, "service")
		map[string]part{"http": http, "service": service}[broken].fail <- boom
		err := run.Front(t.Context(), run.Part{Name: "http", Component: http}, time.Second, time.Second, run.Part{Name: "service", Component: service})
		if !errors.Is(err, boom) {
			t.Errorf("where %s fails, the error is %v", broken, err)
		}
	}
}
