package analytics

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/window"
)

// everyKind counts orders by currency in windows of every kind.
func everyKind() []Query {
	read := func(in *Input) (Reading, error) {
		order, err := Payload[orderFacts](in)
		return Reading{Key: order.Currency, Value: int64(order.Total), Item: order.Currency}, err
	}
	var all []Query
	for name, windows := range map[string]window.Windows{
		"tumbling": window.Tumbling(time.Minute, 0), "hopping": window.Hopping(5*time.Minute, 2*time.Minute, 0),
		"session": window.Session(90 * time.Second), "calendar": window.Calendar(window.Day, "Europe/London"),
	} {
		aggregate := map[bool]window.Aggregate{true: window.Sum(), false: window.Top(2)}[name < "s"]
		all = append(all, Query{Name: name, Types: []string{events.TypeOrderPlaced}, Windows: windows, Aggregate: aggregate, Read: read})
	}
	return all
}

// TestStreamingAndBackfillEqualBatch: for every kind of window, event by event and in micro-batches, with copies and any disorder, with backfills while events come: at the end
// every window is as a batch has it, and one more backfill has nothing to do.
func TestStreamingAndBackfillEqualBatch(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			streamingAndBackfill(t, seed, 150)
		})
	}
}

func streamingAndBackfill(t *testing.T, seed uint64, n int) {
	random := rand.New(rand.NewPCG(seed, 1))
	s := newShopOf(t, eventstest.Start, 2)
	settings := Settings{Bound: time.Minute, Lateness: 2 * time.Minute}
	if seed%2 == 1 {
		settings.Mode = Mode{Every: 50 * time.Millisecond, Events: 20}
	}
	in := s.start(Config{Queries: everyKind(), Default: &settings})
	b := s.newBackfillOf(in)
	b.mostWindows = 5 + int(seed)*20

	published := make(chan error, 1)
	go func() { published <- s.disorder(random, n) }()
	total := BackfillReport{}
	for sent := false; !sent; {
		select {
		case err := <-published:
			if err != nil {
				t.Fatal(err)
			}
			sent = true
		default:
		}
		for _, r := range b.must(t, false) {
			total.add(&r)
		}
	}
	for i := range 12 { // in both partitions, whatever their ids
		s.place(fmt.Sprintf("now-%d", i), time.Now().UTC().Format(time.RFC3339), "USD", 1)
	}
	in.awaitRead("tumbling", uint64(n+12)) //nolint:gosec // small
	for _, r := range b.must(t, false) {
		total.add(&r)
	}
	got, before := s.results()
	sameWindows(t, got, s.batch(b.plan), time.Now().Add(-72*time.Hour))
	for _, r := range b.must(t, false) {
		if r.Published+r.Retracted > 0 {
			t.Errorf("one more backfill: %+v", r)
		}
	}
	if _, after := s.results(); after != before {
		t.Errorf("one more backfill has published %d results", after-before)
	}
	if total.Published == 0 || total.Lost+int(total.Expired) > 0 { //nolint:gosec // small
		t.Errorf("all backfills together: %+v", total)
	}
}

// disorder stores n orders of a few hours, out of order by minutes, a few by hours; some are copies of others.
func (s *shop) disorder(random *rand.Rand, n int) error {
	start := time.Date(2020, 3, 28, 22, 0, 0, 0, time.UTC) // clocks change in London that night
	var sent []events.Event
	for i := range n {
		ev := order(s.tb, fmt.Sprint(i), start.Add(time.Duration(i)*40*time.Second-disorderOf(random)).Format(time.RFC3339), []string{"GBP", "EUR"}[random.IntN(2)], events.Minor(random.IntN(100)))
		if i > 0 && random.IntN(10) == 0 {
			ev = sent[random.IntN(len(sent))]
		}
		sent = append(sent, ev)
		msg, err := s.encoder.Encode(s.tb.Context(), s.subjects.Order(ev.ID), ev)
		if err != nil {
			return err
		}
		msg.Header.Del(nats.MsgIdHdr) // as by a plain client: the broker stores copies
		if _, err := s.js.PublishMsg(s.tb.Context(), msg); err != nil {
			return err
		}
	}
	return nil
}

func disorderOf(random *rand.Rand) time.Duration {
	switch random.IntN(10) {
	case 0:
		return time.Duration(random.IntN(7200)) * time.Second
	case 1, 2, 3:
		return time.Duration(random.IntN(300)) * time.Second
	}
	return time.Duration(random.IntN(30)) * time.Second
}

// A late event of 0.1.0 does not say its key: then the event itself does.
func TestBackfillOfLateEventsWithoutKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	s.place("a", "2010-12-01T08:00:10Z", "GBP", 1)
	s.place("b", "2010-12-01T08:05:00Z", "GBP", 1)
	s.place("c", "2010-12-01T08:00:20Z", "GBP", 1)
	in.awaitRead("revenue-per-minute", 3)
	b := s.newBackfillOf(in)
	var late events.LateEvent
	for _, m := range s.stored(events.StreamLate, "") {
		l, err := lateIn(&m)
		if err != nil {
			t.Fatal(err)
		}
		if l.Query == "revenue-per-minute" {
			late = l
		}
	}
	if late.Key == nil || *late.Key != "GBP" {
		raw, _ := json.Marshal(late)
		t.Fatalf("%s", raw)
	}
	late.Key = nil
	log, err := b.logState(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, known, err := b.keyOf(t.Context(), b.plan.find("revenue-per-minute"), &late, log)
	if err != nil || !known || key != "GBP" {
		t.Errorf("%q, %t, %v", key, known, err)
	}
}

// What a micro-batch holds back is not out: a backfill leaves such windows alone until it is.
func TestBackfillWaitsForWhatIsHeldBack(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	cfg := plain()
	cfg.Queries = everyKind()
	cfg.Settings = map[string]Settings{"session": {Bound: time.Minute, Mode: Mode{Events: 6}}}
	in := s.start(cfg)
	for i, at := range []string{"07:00:00", "07:30:00", "08:00:00", "08:30:00", "07:59:00"} { // the last one belongs to the session of 08:00, which is gone
		s.place(fmt.Sprint(i), "2010-12-01T"+at+"Z", []string{"EUR", "GBP", "GBP", "EUR", "GBP"}[i], 1)
	}
	in.awaitRead("session", 5)
	b := s.newBackfillOf(in)
	sessions := func() (all []window.Result) {
		got, _ := s.results()
		for at, r := range got {
			if at.query == "session" {
				all = append(all, r)
			}
		}
		return all
	}
	if r := b.must(t, false)["session"]; r.Published+r.Retracted != 0 || r.Pending != 1 || len(sessions()) != 0 {
		t.Errorf("nothing is out, and a backfill did %+v: %+v", r, sessions())
	}
	s.place("5", "2010-12-01T09:00:00Z", "EUR", 1) // the sixth: what was held back comes out
	in.awaitRead("session", 6)
	if r := b.must(t, false)["session"]; r.Published != 1 || r.Retracted != 1 {
		t.Errorf("%+v", r)
	}
	got, _ := s.results()
	sameWindows(t, got, s.batch(b.plan), time.Date(2010, 12, 1, 8, 31, 0, 0, time.UTC))
}
