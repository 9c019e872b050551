package backup

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func (w *world) consumer(stream, name string) jetstream.Consumer {
	w.t.Helper()
	c, err := w.js.Consumer(w.t.Context(), stream, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// busiest is a partition of the group inventory that has an event.
func (w *world) busiest() string {
	w.t.Helper()
	g, _ := w.topology.Group(events.GroupInventory)
	for p := range g.Partitions {
		if w.consumer(events.StreamOrders, g.Consumer(p)).CachedInfo().NumPending > 1 {
			return g.Consumer(p)
		}
	}
	w.t.Fatal("no partition has two orders")
	return ""
}

// next takes one event as the owner of the partition.
func (w *world) next(consumer string) jetstream.Msg {
	w.t.Helper()
	batch, err := w.consumer(events.StreamOrders, consumer).Fetch(1, jetstream.FetchPriorityGroup("owner"), jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		w.t.Fatal(err)
	}
	m, ok := <-batch.Messages()
	if !ok {
		w.t.Fatalf("nothing comes: %v", batch.Error())
	}
	return m
}

func (w *world) paused() (names []string) {
	w.t.Helper()
	for _, g := range w.topology.Groups {
		for p := range g.Partitions {
			if c := w.consumer(g.Stream, g.Consumer(p)).CachedInfo(); c.Paused {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

// What a group had in hand when the backup began, and was done before its own stream was read, is done once more after the restore: its effect may be missing.
func TestGroupsAreMovedBackToWhereTheyStood(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backup")
	from := newWorld(t, eventstest.Start(t))
	from.fill()
	name := from.busiest()
	inHand := from.next(name)
	acked := writerFunc(func(p []byte) {
		if strings.HasPrefix(string(p), events.StreamDLQ+" ") { // ORDERS comes later
			if err := inHand.DoubleAck(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	m, err := Take(t.Context(), Config{JS: from.js, Topology: from.topology, Settle: 50 * time.Millisecond, Progress: acked}, dir)
	if err != nil || m.Settled || len(m.Floors) != 33 {
		t.Fatalf("taken %+v, %v", m, err)
	}
	if p := from.paused(); len(p) > 0 {
		t.Errorf("still paused: %v", p)
	}
	meta, err := inHand.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	if got := from.consumer(events.StreamOrders, name).CachedInfo().AckFloor.Stream; got != meta.Sequence.Stream {
		t.Fatalf("the group stands at %d", got)
	}
	to := newWorld(t, eventstest.Start(t))
	out, err := to.restore(dir)
	if err != nil || out.MovedBack != 1 {
		t.Fatalf("restored %+v, %v", out, err)
	}
	again, err := to.next(name).Metadata()
	if err != nil || again.Sequence.Stream != meta.Sequence.Stream {
		t.Errorf("the first event is %+v (%v), want %d", again, err, meta.Sequence.Stream)
	}
}

func TestGroupsGoOnWhenABackupFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, eventstest.Start(t))
	w.fill()
	ctx, cancel := context.WithCancel(t.Context())
	held := 0
	stop := writerFunc(func(p []byte) {
		if strings.HasPrefix(string(p), events.StreamDLQ) {
			held = len(w.paused())
			cancel() // Ctrl-C in its middle
		}
	})
	dir := filepath.Join(t.TempDir(), "backup")
	if _, err := Take(ctx, Config{JS: w.js, Topology: w.topology, Progress: stop}, dir); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if p := w.paused(); held != 33 || len(p) > 0 {
		t.Errorf("%d were paused, and these still are: %v", held, p)
	}
	if _, err := Open(dir); !errors.Is(err, ErrNoBackup) {
		t.Errorf("half a backup can be opened: %v", err)
	}
	if _, err := Take(t.Context(), Config{JS: w.js, Topology: w.topology}, dir); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("half a backup is written over: %v", err)
	}
}

func TestNothingIsRestoredUnderRunningServices(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backup")
	w := newWorld(t, eventstest.Start(t))
	w.fill()
	w.take(dir)
	g, _ := w.topology.Group(events.GroupNotify)
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	member, err := bus.NewGroup(
		bus.GroupConfig{Group: g, Handler: func(context.Context, bus.Delivery) error { return nil }},
		bus.Deps{JS: w.js, Encoder: bus.NewEncoder(registry, bus.Telemetry{}), Subjects: w.subjects},
	)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- member.Run(ctx) }()
	eventstest.Eventually(t, 20*time.Second, "the member is known", func() bool {
		members, err := bus.Members(t.Context(), w.js)
		return err == nil && len(members) > 0
	})
	replace := func(c *RestoreConfig) { c.Replace = true }
	if _, err := w.restore(dir, replace); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), events.GroupNotify) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := w.restore(dir, replace); err != nil {
		t.Error(err)
	}
}

func TestEveryStreamHasItsPlace(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	list, err := items(&topology)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) int { return slices.IndexFunc(list, func(i item) bool { return i.name == name }) }
	for _, s := range topology.Streams {
		for _, source := range s.Sources {
			if at(s.Name) > at(source.Stream) {
				t.Errorf("%s is read after %s, which it copies", s.Name, source.Stream)
			}
		}
		if !s.DenyDelete && !s.Schedules && (s.MaxMsgsPerSubject > 0 || s.DiscardNew) && !list[at(s.Name)].whole {
			t.Errorf("%s loses messages while it is read, and is not read again", s.Name)
		}
	}
	if at(events.StreamWindows) > at(events.StreamTimeline) || at(events.StreamOrders) > at(events.StreamTimers) || at(lastHeld) < at(events.StreamStock) {
		t.Errorf("the order is %v", list)
	}
	topology.Streams = append(topology.Streams, events.Stream{Name: "NEW"})
	if _, err := items(&topology); err == nil {
		t.Error("a stream that has no place is left out")
	}
}

func TestWithoutIncarnation(t *testing.T) {
	t.Parallel()
	const end = "\r\nce-id: 1\r\n\r\n"
	for in, want := range map[string]string{
		"NATS/1.0\r\nNats-Stream-Source: ORDERS 5 > > orders.1.x 0xAb" + end: "NATS/1.0\r\nNats-Stream-Source: ORDERS 5 > > orders.1.x" + end,
		"NATS/1.0\r\nNats-Stream-Source: ORDERS 5 > > orders.1.x" + end:      "",
		"NATS/1.0\r\nNats-Stream-Source: ORDERS 5" + end:                     "",
		"NATS/1.0" + end: "",
		"NATS/1.0\r\nNats-Stream-Source: a b c d e f": "",
		"": "",
	} {
		if want == "" {
			want = in
		}
		if got := string(withoutIncarnation([]byte(in))); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

// A manifest goes to disk as it is.
func TestManifest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := &Manifest{Format: Format, ID: "x", At: time.Now().UTC(), Floors: []Floor{{"S", "c", 7}}, Streams: []Stream{{Name: "S", Messages: 3, Bytes: 5}}}
	if err := m.write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(m)
	b, _ := json.Marshal(got)
	if string(a) != string(b) || got.Messages() != 3 || got.Bytes() != 5 {
		t.Errorf("got %s, want %s", b, a)
	}
	if _, err := os.Stat(filepath.Join(dir, manifestFile+".next")); err == nil {
		t.Error("a file is left behind")
	}
}
