package analytics

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// Here the service is a process of its own and dies by SIGKILL, at each stage of a step. The queries are all that there are: tumbling, hopping, sessions and days. What is
// in WINDOWS, LATE and ALERTS at the end is compared with what a process gives that was never killed and reads the same log. The rows of the table of
// cases (pkg/window/testdata) that are shown here are named in the tests: C01 to C07, C09 and C10.

// settings keep windows for a while after they have come out, so that there are revisions and retractions.
func killSettings(mode Mode) Settings {
	return Settings{Bound: time.Minute, Lateness: 3 * time.Minute, Mode: mode}
}

const killEvents = 400

// stocked is a shop whose TIMELINE has orders and clicks with disorder, late ones, repeated ids, bursts of one customer, and things that can't be read.
func stocked(t *testing.T, n int, change ...func(*events.Topology)) *shop {
	t.Helper()
	s := newShopOf(t, eventstest.Start, 2, append([]func(*events.Topology){func(top *events.Topology) { *top = childTopology(2) }}, change...)...)
	s.feed(0, n)
	return s
}

// feed stores events first to last-1, all different, the same in every run. TIMELINE gets them in pieces: it may mix what is stored in ORDERS and CLICKS at about the same time.
func (s *shop) feed(first, last int) {
	s.tb.Helper()
	const piece = 40
	for ; first < last; first += piece {
		s.feedPiece(first, min(first+piece, last))
		end := first + piece
		eventstest.Eventually(s.tb, patience, "TIMELINE has it", func() bool { return s.inTimeline() >= min(end, last) })
	}
}

// inTimeline is how many events TIMELINE has beside heartbeats.
func (s *shop) inTimeline() int {
	s.tb.Helper()
	stream, err := s.js.Stream(s.tb.Context(), events.StreamTimeline)
	if err != nil {
		s.tb.Fatal(err)
	}
	info, err := stream.Info(s.tb.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		s.tb.Fatal(err)
	}
	n := 0
	for subject, count := range info.State.Subjects {
		if subject != events.SubjectTick {
			n += int(count) //nolint:gosec // small
		}
	}
	return n
}

func (s *shop) feedPiece(first, last int) {
	s.tb.Helper()
	random := rand.New(rand.NewPCG(7, uint64(first))) //nolint:gosec // a test's input
	begin := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC)
	for i := first; i < last; i++ {
		delay := []int{0, 0, 0, 1, 5, 30, 90, 200, 900}[random.IntN(9)]
		at := begin.Add(time.Duration(i*7-delay) * time.Second)
		who := fmt.Sprint("customer-", random.IntN(5))
		if i%40 < 8 { // a burst
			at, who = begin.Add(time.Duration(i/40*280+i%40/3)*time.Second), "in-a-hurry"
		}
		switch i % 50 { // a session that has come out, and an order that makes it longer
		case 20:
			at, who = begin.Add(time.Duration(i*7)*time.Second), fmt.Sprint("returning-", i/50)
		case 45:
			at, who = begin.Add(time.Duration((i-25)*7+30)*time.Second), fmt.Sprint("returning-", i/50)
		}
		var ev events.Event
		var err error
		subject := s.subjects.Order(fmt.Sprint("order-", i))
		if i%5 == 4 {
			ev, err = events.New("/test", events.TypePageClicked, who, at, events.PageClicked{User: who, Page: fmt.Sprint("/", i%3), Platform: "web"})
			subject = s.subjects.Click(who)
		} else {
			ev, err = events.New("/test", events.TypeOrderPlaced, who, at, events.OrderPlaced{
				OrderID: fmt.Sprint("order-", i), CustomerID: who, Currency: []string{"GBP", "EUR"}[i%2], PlacedAt: at, Total: events.Minor(i), RequestDigest: "d",
				Lines: []events.Line{{SKU: fmt.Sprint("sku-", i%4), Quantity: int64(1 + i%3), UnitPrice: 1}, {SKU: "sku-x", Quantity: 1, UnitPrice: 1}},
			})
		}
		if err != nil {
			s.tb.Fatal(err)
		}
		ev.ID = fmt.Sprint("event-", i-i%7%2) // some ids come twice
		header, data, err := events.Encode(&ev)
		if err != nil {
			s.tb.Fatal(err)
		}
		if i%31 == 30 {
			data = []byte("{}")
		}
		if _, err := s.js.PublishMsgAsync(&nats.Msg{Subject: subject, Header: nats.Header(header), Data: data}); err != nil {
			s.tb.Fatal(err)
		}
	}
	<-s.js.PublishAsyncComplete()
}

// given is what a run has given to the world.
type given struct {
	results, late, alerts []string
	counts                []queryRecord
}

func (s *shop) given() given {
	s.tb.Helper()
	read := func(stream, filter string) (out []string) {
		for _, m := range s.stored(stream, filter) {
			out = append(out, m.Subject+" "+m.Header.Get("ce-id")+" "+m.Header.Get("ce-time")+" "+string(m.Data))
		}
		return out
	}
	g := given{results: read(events.StreamWindows, "windows."), late: read(events.StreamLate, ""), alerts: read(events.StreamAlerts, "")}
	slices.Sort(g.results)
	slices.Sort(g.alerts)
	rec, _, err := newJournal(s.js, s.subjects).last(s.tb.Context())
	if err != nil {
		s.tb.Fatal(err)
	}
	for _, q := range rec.Queries {
		q.Sequence, q.Cut = 0, 0 // heartbeats move them
		g.counts = append(g.counts, q)
	}
	return g
}

// once fails where something is stored twice.
func (g *given) once(t *testing.T) {
	t.Helper()
	for what, all := range map[string][]string{"result": g.results, "late event": g.late, "alert": g.alerts} {
		seen := make(map[string]bool)
		for _, text := range all {
			id := strings.Fields(text)[1]
			if seen[id] {
				t.Errorf("a %s is stored twice: %s", what, text)
			}
			seen[id] = true
		}
	}
}

// last keeps the last result of each window: what micro-batches have in common, wherever they are cut.
func (g *given) last(s *shop) []string {
	last := make(map[string]string)
	for _, m := range s.stored(events.StreamWindows, "windows.") {
		last[m.Subject] = string(m.Data)
		if strings.Contains(string(m.Data), `"retract"`) {
			delete(last, m.Subject)
		}
	}
	var all []string
	for subject, data := range last {
		all = append(all, subject+" "+data)
	}
	slices.Sort(all)
	return all
}

// awaitAll waits until a process has read and published the whole log: the last event's effect is committed, and so is a heartbeat behind it, which comes after the outputs.
func (s *shop) awaitAll(last uint64) {
	s.tb.Helper()
	j := newJournal(s.js, s.subjects)
	group, _ := s.topology.Group(events.GroupAnalytics)
	eventstest.Eventually(s.tb, 3*patience, "all is read, published and acknowledged", func() bool {
		rec, _, err := j.last(s.tb.Context())
		if err != nil || rec.Sequence < last {
			return false
		}
		c, err := s.js.Consumer(s.tb.Context(), events.StreamTimeline, group.Consumer(0))
		return err == nil && c.CachedInfo().AckFloor.Stream >= last
	})
}

// lastEvent is the sequence of the last event in TIMELINE.
func (s *shop) lastEvent() (last uint64) {
	for _, m := range s.stored(events.StreamTimeline, "") {
		if m.Subject != events.SubjectTick {
			last = m.Sequence
		}
	}
	return last
}

// again empties the streams of results, so that the log is read anew, by a process that nobody kills.
func (s *shop) again(c child) given {
	s.tb.Helper()
	for _, name := range []string{events.StreamWindows, events.StreamLate, events.StreamAlerts} {
		if err := s.js.DeleteStream(s.tb.Context(), name); err != nil {
			s.tb.Fatal(err)
		}
	}
	s.server.Apply(s.topology)
	c.Nth = 0
	s.awaitAllBy(c)
	return s.given()
}

func (g *given) equal(t *testing.T, want given) {
	t.Helper()
	for what, pair := range map[string][2][]string{"results": {g.results, want.results}, "late events": {g.late, want.late}, "alerts": {g.alerts, want.alerts}} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %d, want %d; only here: %q; only there: %q", what, len(pair[0]), len(pair[1]), without(pair[0], pair[1]), without(pair[1], pair[0]))
		}
	}
	if got, want := fmt.Sprint(texts(g.counts)), fmt.Sprint(texts(want.counts)); got != want {
		t.Errorf("counts: %s\nwant %s", got, want)
	}
}

func texts(qs []queryRecord) (out []string) {
	for _, q := range qs {
		out = append(out, q.Name+q.String())
	}
	return out
}

// without are at most three of a that are not in b.
func without(a, b []string) (out []string) {
	for _, text := range a {
		if !slices.Contains(b, text) && len(out) < 3 {
			out = append(out, text)
		}
	}
	return out
}

// rich fails where the input does not show what the test is about.
func (g *given) rich(t *testing.T) {
	t.Helper()
	all := strings.Join(g.results, "\n")
	for _, text := range []string{`"late"`, `"on_time"`, "windows.units-per-sku.", "windows.customer-sessions.", "windows.orders-per-minute.", "windows.order-velocity."} {
		if !strings.Contains(all, text) {
			t.Errorf("no result has %s: the test does not show much", text)
		}
	}
	if len(g.late) == 0 || len(g.alerts) == 0 {
		t.Errorf("%d late events and %d alerts: the test does not show much", len(g.late), len(g.alerts))
	}
}

// death is where one of a row of processes dies.
type death struct {
	name  string
	stage stage
	nth   int
}

// killRow is a row of processes in one mode.
type killRow struct {
	mode   Mode
	deaths []death
}

// TestKilledAnywhere (C01, C02, C03, C05, C06, C08): a row of processes, each dies at another stage; the last one reads to the end. What is stored is what one process gives that
// nobody kills, which reads the log again later: every result and every late event once. The streams forget message ids after a tenth of a second, which is shorter than each restart.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, row := range killRows() {
		t.Run(row.mode.String(), func(t *testing.T) {
			t.Parallel()
			s := stocked(t, killEvents)
			c := child{Partitions: 2, Step: 20, Default: killSettings(row.mode), Does: dies}
			for _, d := range row.deaths {
				c.Stage, c.Nth = d.stage, d.nth
				s.spawn(c).awaitDeath(d.name)
			}
			c.Nth = 0
			s.awaitAllBy(c)
			got := s.given()
			got.once(t)
			got.rich(t)
			if !row.mode.batched() && !strings.Contains(strings.Join(got.results, " "), `"retract"`) { // in a batch it may come and go unseen
				t.Error("no session was retracted: the test does not show much")
			}
			last := got.last(s)
			want := s.again(c)
			if row.mode.batched() { // where batches are cut hangs on the clock
				got.results, want.results = last, want.last(s)
			}
			got.equal(t, want)
		})
	}
}

// TestStaleInstanceIsRefused (C04): the owner is stopped by SIGSTOP before it commits, another one takes over and goes on, and the first one wakes up. Its commit is refused, nothing of it is
// seen, and it stands by.
func TestStaleInstanceIsRefused(t *testing.T) {
	t.Parallel()
	s := stocked(t, killEvents)
	c := child{Partitions: 2, Step: 20, Default: killSettings(Mode{}), Stage: beforeCommit, Nth: 4, Does: stops}
	first := s.spawn(c)
	j := newJournal(s.js, s.subjects)
	eventstest.Eventually(t, patience, "the first one has stopped", func() bool { return stopped(first.cmd.Process.Pid) })
	before, _, err := j.last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Nth = 0
	second := s.spawn(c)
	s.awaitAll(s.lastEvent())
	if after, _, err := j.last(t.Context()); err != nil || after.Sequence <= before.Sequence {
		t.Fatalf("the second one has not gone on: %d, %d, %v", before.Sequence, after.Sequence, err)
	}
	if err := first.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, patience, "the first one is refused and stands by", func() bool { return first.logged("another instance commits: standing by") })
	s.feed(killEvents, killEvents+40)
	s.awaitAll(s.lastEvent())
	first.stop()
	second.stop()
	got := s.given()
	got.once(t)
	got.rich(t)
	got.equal(t, s.again(c))
}

// stopped says whether a process stands still (state T of proc(5)).
func stopped(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, found := strings.Cut(string(raw), ") ")
	return err == nil && found && strings.HasPrefix(rest, "T")
}

// TestOlderCopyOfTheLogIsRefused (C09): the broker's data is put back from an older copy, except for the commit records. Analytics refuses, names both sequences, and says so in its health, also when
// the log has come as far again with other messages.
func TestOlderCopyOfTheLogIsRefused(t *testing.T) {
	t.Parallel()
	s := stocked(t, 60)
	c := child{Partitions: 2, Step: 20, Default: killSettings(Mode{})}
	s.awaitAllBy(c)
	dir := s.server.Nodes()[0].JetStreamConfig().StoreDir
	older := t.TempDir()
	s.server.Stop(0)
	copyDir(t, dir, older)
	s.server.Restart(0)
	s.feed(60, 120)
	s.awaitAllBy(c)
	rec, _, err := newJournal(s.js, s.subjects).last(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	s.server.Stop(0)
	for _, name := range []string{events.StreamTimeline, events.StreamOrders, events.StreamClicks, events.StreamTicks} {
		at := filepath.Join("$G", "streams", name)
		if err := os.RemoveAll(filepath.Join(dir, at)); err != nil {
			t.Fatal(err)
		}
		copyDir(t, filepath.Join(older, at), filepath.Join(dir, at))
	}
	s.server.Restart(0)
	in := s.worker()
	if _, err := in.position(t.Context()); !errors.Is(err, errLogLost) || in.reach.failing() == nil {
		t.Fatalf("got %v, want %v", err, errLogLost)
	}
	p := s.spawn(c)
	eventstest.Eventually(t, patience, "it refuses", func() bool { return p.logged(errLogLost.Error()) && p.logged(fmt.Sprint(rec.Sequence)) })
	stream, err := s.js.Stream(t.Context(), events.StreamTimeline)
	if err != nil {
		t.Fatal(err)
	}
	if !p.logged("it ends at sequence ") {
		t.Errorf("it does not say where the log ends:\n%s", p.log.String())
	}
	s.feed(60, 200)
	eventstest.Eventually(t, patience, "the log has come as far again", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.LastSeq > rec.Sequence
	})
	if _, err := in.position(t.Context()); !errors.Is(err, errLogLost) || !strings.Contains(err.Error(), fmt.Sprintf("message %d was stored", rec.Sequence)) {
		t.Errorf("other messages at the same sequences: got %v, want %v", err, errLogLost)
	}
	if now, _, err := newJournal(s.js, s.subjects).last(t.Context()); err != nil || now.Sequence != rec.Sequence {
		t.Errorf("it went on, from %d to %d (%v)", rec.Sequence, now.Sequence, err)
	}
	p.kill()
}

// awaitAllBy lets a child read everything, and stops it.
func (s *shop) awaitAllBy(c child) {
	s.tb.Helper()
	p := s.spawn(c)
	s.awaitAll(s.lastEvent())
	p.stop()
	if !c.Default.Mode.batched() {
		return
	}
	c.Default.Mode = Mode{} // a batch is open still: event by event nothing is held back
	p = s.spawn(c)
	j := newJournal(s.js, s.subjects)
	eventstest.Eventually(s.tb, 3*patience, "what was held is out", func() bool {
		rec, _, err := j.last(s.tb.Context())
		return err == nil && !slices.ContainsFunc(rec.Queries, func(q queryRecord) bool { return q.Cut < q.Sequence })
	})
	p.stop()
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestFullStreamLosesNothing (C10): LATE, or WINDOWS, is full and refuses. Nothing is acknowledged that is not stored, also where the process dies meanwhile; when there is room, all is there,
// once.
func TestFullStreamLosesNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{events.StreamLate, events.StreamWindows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stocked(t, killEvents)
			stream, err := s.js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			cfg := stream.CachedInfo().Config
			full := cfg
			full.Discard, full.MaxBytes = jetstream.DiscardNew, 8<<10
			if _, err := s.js.UpdateStream(t.Context(), full); err != nil {
				t.Fatal(err)
			}
			c := child{Partitions: 2, Step: 20, Default: killSettings(Mode{})}
			for range 2 {
				p := s.spawn(c)
				eventstest.Eventually(t, patience, "it is refused", func() bool { return p.logged("maximum bytes exceeded") })
				p.kill()
			}
			group, _ := s.topology.Group(events.GroupAnalytics)
			consumer, err := s.js.Consumer(t.Context(), events.StreamTimeline, group.Consumer(0))
			if err != nil {
				t.Fatal(err)
			}
			rec, _, err := newJournal(s.js, s.subjects).last(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if acked := consumer.CachedInfo().AckFloor.Stream; acked > rec.Sequence || rec.Sequence >= s.lastEvent() {
				t.Errorf("acknowledged up to %d, committed up to %d", acked, rec.Sequence)
			}
			if _, err := s.js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			s.awaitAllBy(c)
			got := s.given()
			got.once(t)
			got.rich(t)
			got.equal(t, s.again(c))
		})
	}
}
