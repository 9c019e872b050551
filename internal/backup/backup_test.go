package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// world is a broker with the streams of the topology and something in them.
type world struct {
	t        *testing.T
	server   *eventstest.Server
	js       jetstream.JetStream
	topology events.Topology
	subjects events.Subjects
}

func newWorld(t *testing.T, server *eventstest.Server) *world {
	t.Helper()
	w := &world{t: t, server: server, js: server.JetStream(), topology: events.DefaultTopology(0)}
	w.subjects = w.topology.Subjects()
	return w
}

func (w *world) put(subject, eventType, key string, payload any, opts ...jetstream.PublishOpt) {
	w.t.Helper()
	ev, err := events.New("/tidemark/test", eventType, key, time.Now(), payload)
	if err != nil {
		w.t.Fatal(err)
	}
	header, data, err := events.Encode(&ev)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.js.PublishMsg(w.t.Context(), &nats.Msg{Subject: subject, Header: nats.Header(header), Data: data}, opts...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) place(id string) {
	w.t.Helper()
	w.put(w.subjects.Order(id), events.TypeOrderPlaced, id, events.OrderPlaced{OrderID: id, Currency: "GBP"})
}

func (w *world) deadline(id string, due time.Time) {
	w.t.Helper()
	w.put(w.subjects.Timer(id), events.TypeOrderDeadline, id, events.OrderDeadline{OrderID: id, DueAt: due},
		jetstream.WithScheduleAt(due), jetstream.WithScheduleTarget(w.subjects.Timeout(id)))
}

func (w *world) state(stream string) jetstream.StreamState {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.CachedInfo().State
}

// counts are the messages of TIMELINE without the heartbeats, by subject.
func (w *world) counts() map[string]uint64 {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), events.StreamTimeline)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := s.Info(w.t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		w.t.Fatal(err)
	}
	delete(info.State.Subjects, events.SubjectTick)
	return info.State.Subjects
}

func (w *world) fill() {
	w.t.Helper()
	w.server.Apply(w.topology)
	for n := range 50 {
		w.place(fmt.Sprintf("order-%d", n))
		w.put(w.subjects.Click("ann"), events.TypePageClicked, "ann", events.PageClicked{Page: "/"})
	}
	contacts, err := w.js.KeyValue(w.t.Context(), events.BucketContacts)
	if err != nil {
		w.t.Fatal(err)
	}
	for n := range 3 {
		if _, err := contacts.Put(w.t.Context(), "ann", fmt.Append(nil, n)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.copied(51)
}

// copied waits until TIMELINE has messages on so many subjects, all the clicks, and a heartbeat.
func (w *world) copied(subjects int) {
	w.t.Helper()
	eventstest.Eventually(w.t, 20*time.Second, "TIMELINE has copied everything", func() bool {
		s, err := w.js.Stream(w.t.Context(), events.StreamTimeline)
		if err != nil {
			w.t.Fatal(err)
		}
		_, err = s.GetLastMsgForSubject(w.t.Context(), events.SubjectTick)
		return err == nil && len(w.counts()) == subjects
	})
}

func (w *world) take(dir string) *Manifest {
	w.t.Helper()
	m, err := Take(w.t.Context(), Config{JS: w.js, Topology: w.topology, Version: "test", Progress: log{w.t}}, dir)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) restore(dir string, change ...func(*RestoreConfig)) (*Restored, error) {
	w.t.Helper()
	cfg := RestoreConfig{JS: w.js, Topology: w.topology, Replicas: w.server.Replicas(), Progress: log{w.t}}
	for _, c := range change {
		c(&cfg)
	}
	return Restore(w.t.Context(), cfg, dir)
}

type log struct{ t *testing.T }

func (l log) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// What was backed up is there again, under the same sequences; what copies other streams goes on behind what it has, and schedules are kept.
func TestRestore(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]func(testing.TB) *eventstest.Server{"single": eventstest.Start, "cluster": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "backup")
			from := newWorld(t, eventstest.Start(t))
			from.fill()
			from.deadline("order-0", time.Now().Add(time.Hour))
			from.deadline("order-1", time.Now().Add(2*time.Second))
			if _, err := from.js.ResetConsumerToSequence(t.Context(), events.StreamOrders, "inventory-3", 40); err != nil {
				t.Fatal(err)
			}
			m := from.take(dir)
			if !m.Settled || len(m.Floors) != 33 || m.HeldMS == 0 {
				t.Errorf("the manifest says %+v", m)
			}
			from.server.Stop(0)

			to := newWorld(t, target(t))
			out, err := to.restore(dir)
			if err != nil {
				t.Fatal(err)
			}
			if out.Open != 50 || out.Deadlines != 48 || out.Streams != len(m.Streams) {
				t.Errorf("restored %+v", out)
			}
			for _, s := range m.Streams {
				if got := to.state(s.Name); got.LastSeq < s.Last || s.Name == events.StreamOrders && (got.Msgs != 50 || got.LastSeq != 50 || got.Consumers < 16) {
					t.Errorf("%s is %+v, the backup %+v", s.Name, got, s)
				}
			}
			contacts, err := to.js.KeyValue(t.Context(), events.BucketContacts)
			if err != nil {
				t.Fatal(err)
			}
			if e, err := contacts.Get(t.Context(), "ann"); err != nil || string(e.Value()) != "2" {
				t.Errorf("contact %v (%v)", e, err)
			}
			// New events are copied behind the old ones, and the old ones are not copied again.
			to.place("order-new")
			to.copied(52)
			before := to.state(events.StreamTicks).LastSeq
			eventstest.Eventually(t, 20*time.Second, "the heart beats", func() bool { return to.state(events.StreamTicks).LastSeq > before+2 })
			for subject, n := range to.counts() {
				if want := uint64(1); n != want && !strings.HasPrefix(subject, "clicks.") || strings.HasPrefix(subject, "clicks.") && n != 50 {
					t.Errorf("TIMELINE has %d messages on %s", n, subject)
				}
			}
			timers, err := to.js.Stream(t.Context(), events.StreamTimers)
			if err != nil {
				t.Fatal(err)
			}
			eventstest.Eventually(t, 20*time.Second, "a deadline that came meanwhile is due", func() bool {
				_, err := timers.GetLastMsgForSubject(t.Context(), to.subjects.Timeout("order-1"))
				return err == nil
			})
			if _, err := timers.GetLastMsgForSubject(t.Context(), to.subjects.Timer("order-0")); err != nil {
				t.Errorf("a deadline that is not due: %v", err)
			}
			plan, err := bus.Plan(t.Context(), to.js, to.topology, to.server.Replicas())
			if err != nil || len(plan) > 0 {
				t.Errorf("the topology is not in place: %v (%v)", plan, err)
			}
			if _, err := to.restore(dir); !errors.Is(err, ErrNotFree) {
				t.Errorf("restored over it: %v", err)
			}
			out, err = to.restore(dir, func(c *RestoreConfig) { c.Replace = true })
			if err != nil || len(out.Removed) != 16 || to.state(events.StreamOrders).LastSeq != 50 {
				t.Errorf("replaced: %+v, %v", out, err)
			}
		})
	}
}

func TestDamagedBackupIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backup")
	from := newWorld(t, eventstest.Start(t))
	from.fill()
	from.take(dir)
	to := newWorld(t, eventstest.Start(t))
	orders := filepath.Join(dir, streamsDir, events.StreamOrders, dataFile)
	manifest := filepath.Join(dir, manifestFile)
	read := func(path string) string {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	whole := map[string]string{orders: read(orders), manifest: read(manifest)}
	for name, c := range map[string]struct {
		path, content string
		want          error
		says          string
	}{
		"a file is missing":      {orders, "", ErrDamaged, "missing"},
		"a file is cut":          {orders, whole[orders][:len(whole[orders])/2], ErrDamaged, "SHA-256"},
		"a byte is wrong":        {orders, whole[orders][:100] + "?" + whole[orders][101:], ErrDamaged, "SHA-256"},
		"no manifest":            {manifest, "", ErrNoBackup, "not finished"},
		"half a manifest":        {manifest, whole[manifest][:50], ErrDamaged, "manifest"},
		"a newer format":         {manifest, strings.Replace(whole[manifest], `"format": 1`, `"format": 2`, 1), ErrNewer, "format 2"},
		"a newer topology":       {manifest, strings.Replace(whole[manifest], `"topology": 1`, `"topology": 9`, 1), ErrUnfit, "topology 9"},
		"a newer server":         {manifest, strings.Replace(whole[manifest], `"server": "2.`, `"server": "3.`, 1), ErrUnfit, "nats-server 3."},
		"other partitions":       {manifest, strings.Replace(whole[manifest], `"partitions": 8`, `"partitions": 4`, 1), ErrUnfit, "4 partitions"},
		"a stream is not listed": {manifest, strings.Replace(whole[manifest], `"name": "STOCK"`, `"name": "OTHER"`, 1), ErrUnfit, "STOCK"},
	} {
		err := os.WriteFile(c.path, []byte(c.content), 0o600)
		if c.content == "" {
			err = os.Remove(c.path)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.restore(dir); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v with %q", name, err, c.want, c.says)
		}
		if err := os.WriteFile(c.path, []byte(whole[c.path]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name := range to.js.StreamNames(t.Context()).Name() {
		t.Errorf("stream %s was made", name)
	}
	if _, err := to.restore(dir); err != nil {
		t.Error(err)
	}
}

// A restore that was interrupted leaves streams that nobody works on, and the next one begins anew without being told.
func TestInterruptedRestore(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backup")
	from := newWorld(t, eventstest.Start(t))
	from.fill()
	from.take(dir)
	to := newWorld(t, eventstest.Start(t))
	ctx, cancel := context.WithCancel(t.Context())
	stop := writerFunc(func(p []byte) {
		if strings.HasPrefix(string(p), events.StreamStock) {
			cancel()
		}
	})
	if _, err := Restore(ctx, RestoreConfig{JS: to.js, Topology: to.topology, Progress: stop}, dir); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if n := to.state(events.StreamStock).LastSeq; n != 0 {
		t.Errorf("STOCK ends at %d", n)
	}
	if err := bus.Apply(t.Context(), to.js, to.topology, 1); !errors.Is(err, bus.ErrTopology) || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("the topology is applied on half a restore: %v", err)
	}
	out, err := to.restore(dir)
	if err != nil || len(out.Removed) == 0 || to.state(events.StreamOrders).LastSeq != 50 {
		t.Errorf("the second restore: %+v, %v", out, err)
	}
	to.server.Apply(to.topology)
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
