package bus_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

const childDies = "BUS_TEST_CHILD_DIES"

// runDyingChild is a member whose process dies of one event, as of a lack of memory: nothing runs any more, nobody is told.
func runDyingChild(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	partitions, err := strconv.Atoi(os.Getenv(childDies))
	if err != nil {
		return err
	}
	top := topology(partitions)
	group, _ := top.Group("readers")
	g, err := bus.NewGroup(bus.GroupConfig{Group: group, Handler: func(_ context.Context, d bus.Delivery) error {
		if d.Event.Key() == "deadly" {
			time.Sleep(20 * time.Millisecond) // work, not waiting
			self, err := os.FindProcess(os.Getpid())
			if err != nil {
				return err
			}
			_ = self.Kill()
			select {}
		}
		time.Sleep(60 * time.Millisecond) // work, not waiting
		return nc.Publish(childSubject, fmt.Appendf(nil, "%d %d %s", d.Sequence, d.Event.Version, d.Event.PartitionKey))
	}}, bus.Deps{JS: js, Subjects: top.Subjects()})
	if err != nil {
		return err
	}
	return g.Run(context.Background())
}

// TestDeadlyEvent: a process dies of one event, with ten others in flight. After its third victim the event is a dead letter, the others are handled, none of them is blamed,
// and the group moves again.
func TestDeadlyEvent(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, partitions, single)
			r := newRecord()
			f.hear(r)
			for i := range 5 {
				f.publish("before" + strconv.Itoa(i))
			}
			f.publish("deadly")
			for i := range 5 {
				f.publish("behind" + strconv.Itoa(i))
			}
			deaths, stop := f.supervise(partitions)
			eventstest.Eventually(t, 60*time.Second, "the ten others are handled, and the deadly one is a letter", func() bool {
				return r.distinct() == 10 && len(f.letters()) == 1
			})
			f.publish("deadly") // waits behind
			f.publish("later")
			f.settled(f.group)
			eventstest.Eventually(t, 10*time.Second, "the group moves", func() bool { return r.distinct() == 11 })
			n := deaths()
			stop()
			f.wantLetters("deadly 1 dead crash_loop", "deadly 2 blocked predecessor")
			if n != 3 {
				t.Errorf("%d processes died, want 3; the records: %s", n, f.crashes())
			}
			if l := f.letters()[0]; l.Failure.Fingerprint == "" || l.Attempts != 3 {
				t.Errorf("letter %+v", l)
			}
			if history, err := f.desk().History(t.Context(), deadletter.ID("readers", "ORDERS", 1)); err != nil || len(history) != 0 {
				t.Errorf("an innocent event has a history: %v, %v", history, err)
			}
		})
	}
}

// supervise keeps one member running, as an orchestrator does.
func (f *fixture) supervise(partitions int) (deaths func() int, stop func()) {
	f.Helper()
	var mu sync.Mutex
	n, stopped := 0, false
	var now *exec.Cmd
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			cmd := exec.Command(os.Args[0]) //nolint:gosec,noctx // ourselves
			cmd.Env = append(os.Environ(), childURL+"="+f.server.URL(), childRole+"=dies", childDies+"="+strconv.Itoa(partitions))
			cmd.Stderr = os.Stderr
			mu.Lock()
			if stopped {
				mu.Unlock()
				return
			}
			if err := cmd.Start(); err != nil {
				f.Error(err)
				mu.Unlock()
				return
			}
			now = cmd
			mu.Unlock()
			_ = cmd.Wait() // says that it was killed
			mu.Lock()
			if !stopped {
				n++
			}
			mu.Unlock()
		}
	}()
	stop = func() {
		mu.Lock()
		stopped = true
		if now != nil {
			_ = now.Process.Kill()
		}
		mu.Unlock()
		<-ended
	}
	f.Cleanup(stop)
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}, stop
}

// crashes are the records of what was tried after a crash.
func (f *fixture) crashes() (out []string) {
	f.Helper()
	stream, err := f.js.Stream(context.Background(), events.StreamDLQCtl)
	if err != nil {
		f.Fatal(err)
	}
	for seq := stream.CachedInfo().State.FirstSeq; seq <= stream.CachedInfo().State.LastSeq; seq++ {
		if m, err := stream.GetMsg(context.Background(), seq); err == nil {
			out = append(out, m.Subject+" "+string(m.Data))
		}
	}
	return out
}

// runReplayingChild is the member that TestJobSurvivesKill kills.
func runReplayingChild(url string) error { return runTelling(url, 4, 10*time.Millisecond) }
