package analytics

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/window"
)

// testOrder is an order with lines.
func testOrder(t *testing.T, id, customer string, at time.Time, lines ...events.Line) events.Event {
	t.Helper()
	total := events.Minor(0)
	for _, l := range lines {
		total += l.UnitPrice * events.Minor(l.Quantity)
	}
	ev, err := events.New("/test", events.TypeOrderPlaced, id, at, events.OrderPlaced{
		OrderID: id, CustomerID: customer, Currency: "GBP", PlacedAt: at, Total: total, RequestDigest: "d", Lines: lines,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func testClick(t *testing.T, user, page string, at time.Time) events.Event {
	t.Helper()
	ev, err := events.New("/test", events.TypePageClicked, user, at, events.PageClicked{User: user, Page: page, Platform: "web"})
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// come is what comes out of one query for events that are stored when they happen.
func come(t *testing.T, query string, evs ...events.Event) []string {
	t.Helper()
	p := testPlanOf(t, Config{Default: &Settings{Lateness: 10 * time.Minute, Idle: time.Second}})
	s, err := newState(p)
	if err != nil {
		t.Fatal(err)
	}
	for i, ev := range evs {
		subject := "orders.0.x"
		if ev.Type == events.TypePageClicked {
			subject = "clicks.0.x"
		}
		if _, err := s.apply(&bus.Delivery{Event: ev, Subject: subject, Sequence: uint64(i + 1), StoredAt: ev.Time}, &outputs{}); err != nil { //nolint:gosec // small
			t.Fatal(err)
		}
	}
	end := bus.Delivery{Subject: events.SubjectTick, Sequence: uint64(len(evs) + 1), StoredAt: evs[len(evs)-1].Time.Add(48 * time.Hour)}
	if _, err := s.apply(&end, &outputs{}); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range s.running {
		for _, h := range r.held {
			if r.Name != query {
				continue
			}
			text := fmt.Sprintf("%q %s-%s %d %d", h.Key, time.UnixMilli(h.Start).UTC().Format("15:04:05"), time.UnixMilli(h.End).UTC().Format("15:04:05"), h.Count, h.Value)
			for _, rank := range h.Top {
				text += fmt.Sprintf(" %s=%d", rank.Item, rank.Value)
			}
			out = append(out, text)
		}
	}
	return out
}

func TestWhatTheQueriesCount(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		when, err := time.Parse(time.RFC3339, "2011-06-01T"+clock+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	mug, bag := events.Line{SKU: "MUG", Quantity: 3, UnitPrice: 10}, events.Line{SKU: "BAG", Quantity: 5, UnitPrice: 2}
	shopping := []events.Event{
		testClick(t, "ann", "/sale", at("10:00:00")), testOrder(t, "1", "ann", at("10:10:00"), mug, bag), testOrder(t, "2", "bob", at("10:12:30"), mug),
		testClick(t, "ann", "/", at("10:39:59")), testClick(t, "ann", "/sale", at("11:09:59")),
	}
	for query, want := range map[string][]string{
		"orders-per-minute":  {`"" 10:10:00-10:11:00 1 1`, `"" 10:12:00-10:13:00 1 1`},
		"revenue-per-minute": {`"GBP" 10:10:00-10:11:00 1 40`, `"GBP" 10:12:00-10:13:00 1 30`},
		"units-per-sku": {
			`"" 10:06:00-10:11:00 1 8 BAG=5 MUG=3`, `"" 10:07:00-10:12:00 1 8 BAG=5 MUG=3`, `"" 10:08:00-10:13:00 2 11 MUG=6 BAG=5`, `"" 10:09:00-10:14:00 2 11 MUG=6 BAG=5`,
			`"" 10:10:00-10:15:00 2 11 MUG=6 BAG=5`, `"" 10:11:00-10:16:00 1 3 MUG=3`, `"" 10:12:00-10:17:00 1 3 MUG=3`,
		},
		// Half an hour after the last one to the second begins another session.
		"customer-sessions": {`"bob" 10:12:30-10:42:30 1 1`, `"ann" 10:00:00-11:09:59 3 3`, `"ann" 11:09:59-11:39:59 1 1`},
		"clicks-per-page":   {`"/" 10:00:00-11:00:00 1 1`, `"/sale" 10:00:00-11:00:00 1 1`, `"/sale" 11:00:00-12:00:00 1 1`},
		"order-velocity":    nil,
		"revenue-per-day":   {`"GBP" 23:00:00-23:00:00 2 70`}, // summer time in London
	} {
		if got := come(t, query, shopping...); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", query, got, want)
		}
	}
}

func TestVelocityIsSilentBelowItsLimit(t *testing.T) {
	t.Parallel()
	at := time.Date(2011, 6, 1, 10, 0, 0, 0, time.UTC)
	burst := func(n int) (evs []events.Event) {
		for i := range n {
			evs = append(evs, testOrder(t, fmt.Sprint(i), "ann", at.Add(time.Duration(i)*2*time.Second), events.Line{SKU: "A", Quantity: 1}))
		}
		return append(evs, testOrder(t, "other", "bob", at, events.Line{SKU: "A", Quantity: 1}))
	}
	if got := come(t, "order-velocity", burst(4)...); got != nil {
		t.Errorf("four orders: got %q", got)
	}
	if got, want := come(t, "order-velocity", burst(5)...), []string{`"ann" 09:59:59-10:00:09 5 5`, `"ann" 10:00:00-10:00:10 5 5`}; !slices.Equal(got, want) {
		t.Errorf("five orders: got %q, want %q", got, want)
	}
}

func TestAlertsAreRaisedOnceAWindow(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	at := time.Date(2011, 6, 1, 10, 0, 0, 0, time.UTC)
	place := func(id string, at time.Time) {
		if _, err := s.publisher.Publish(t.Context(), s.subjects.Order(id), testOrder(t, id, "ann", at, events.Line{SKU: "A", Quantity: 1})); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		place(fmt.Sprint("burst-", i), at)
	}
	place("later", at.Add(5*time.Minute))
	eventstest.Eventually(t, patience, "ten alerts", func() bool { return len(s.stored(events.StreamAlerts, "alerts.")) == 10 })
	for i, m := range s.stored(events.StreamAlerts, "alerts.") {
		ev, err := events.Decode(events.Header(m.Header), m.Data)
		if err != nil {
			t.Fatal(err)
		}
		a, err := events.Payload[events.VelocityAlert](&ev)
		if want := s.subjects.Alert("velocity", "ann", a.Start.UnixMilli()); err != nil || m.Subject != want || a.Orders != 6 || a.CustomerID != "ann" ||
			!a.Start.Equal(at.Add(time.Duration(i-9)*time.Second)) || a.End.Sub(a.Start) != 10*time.Second || ev.Type != events.TypeAlertVelocity {
			t.Errorf("on %s: %+v, %v", m.Subject, a, err)
		}
	}
	in.stop()
	w := s.worker() // whoever publishes the record again raises no alert again
	rec, _, err := w.journal.last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.publisher.publish(t.Context(), &rec); err != nil {
		t.Fatal(err)
	}
	if n := len(s.stored(events.StreamAlerts, "alerts.")); n != 10 {
		t.Errorf("%d alerts, want 10", n)
	}
}

// Old orders beside clicks of today: the partitions that are behind are waited for, so neither makes the other late.
func TestPartitionsOfSeveralStreams(t *testing.T) {
	t.Parallel()
	p := testPlanOf(t, Config{Default: &Settings{}})
	q := p.find("customer-sessions")
	if q.partitions != 4 || p.find("orders-per-minute").partitions != 2 || p.find("clicks-per-page").partitions != 2 {
		t.Errorf("%d, %d and %d partitions", q.partitions, p.find("orders-per-minute").partitions, p.find("clicks-per-page").partitions)
	}
	seen := make(map[int]bool)
	for _, subject := range []string{"orders.0.x", "orders.1.x", "clicks.0.x", "clicks.1.x"} {
		stream, partition, ok := p.origins.Of(subject)
		if !ok {
			t.Fatalf("%s has no origin", subject)
		}
		seen[q.partition(stream, partition)] = true
	}
	if len(seen) != 4 {
		t.Errorf("partitions %v, want 4 of them", seen)
	}
	s, err := newState(p)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)
	var out outputs
	for i := range 40 {
		d := bus.Delivery{Sequence: uint64(i + 1), StoredAt: now.Add(time.Duration(i) * time.Second)} //nolint:gosec // small
		if i%2 == 0 {
			d.Event, d.Subject = testClick(t, "ann", "/", now), fmt.Sprintf("clicks.%d.x", i/2%2)
		} else {
			d.Event, d.Subject = testOrder(t, fmt.Sprint(i), "ann", now.AddDate(-16, 0, i), events.Line{SKU: "A", Quantity: 1}), fmt.Sprintf("orders.%d.x", i/2%2)
		}
		if _, err := s.apply(&d, &out); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range s.running {
		if n := r.engine.Counts().Late(); n > 0 && r.Name == "customer-sessions" {
			t.Errorf("%s: %d late", r.Name, n)
		}
	}
}

// A payload is decoded once, whoever asks.
func TestPayloadIsDecodedOnce(t *testing.T) {
	t.Parallel()
	ev := testOrder(t, "1", "ann", time.Now(), events.Line{SKU: "A", Quantity: 1})
	in := &Input{Event: &ev}
	a, err := Payload[orderFacts](in)
	if err != nil || a.Customer != "ann" {
		t.Fatalf("%+v, %v", a, err)
	}
	if b, err := Payload[orderFacts](in); err != nil || a != b {
		t.Errorf("decoded again: %v", err)
	}
	ev.Data = []byte("{")
	if v, err := Payload[orderFacts](&Input{Event: &ev}); !errors.Is(err, events.ErrUndecodable) || v == nil {
		t.Errorf("got %v, %v", v, err)
	}
}

func TestLongKeysAreShortened(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("😀", 100)
	a, b := shorten(long+"a"), shorten(long+"b")
	if a == b || len(a) > maxKey || !strings.HasPrefix(a, "😀😀") || shorten("short") != "short" || strings.ContainsRune(a, '�') {
		t.Errorf("%q and %q", a, b)
	}
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	at := time.Date(2011, 6, 1, 10, 0, 0, 0, time.UTC)
	for i, page := range []string{"/" + strings.Repeat("p", 2000), "/"} {
		if _, err := s.publisher.Publish(t.Context(), s.subjects.Click("ann"), testClick(t, "ann", page, at.Add(time.Duration(i)*2*time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	eventstest.Eventually(t, patience, "the window of a long page is stored", func() bool { return len(s.stored(events.StreamWindows, "windows.clicks-per-page.")) == 1 })
	var page windowsPage
	in.get("/v1/windows?query=clicks-per-page&key=/"+strings.Repeat("p", 2000), &page)
	if len(page.Items) != 1 || page.Items[0].Count != 1 {
		t.Errorf("got %+v", page.Items)
	}
}

// A query that is new reads history, from the first message on, and gives what it would have given.
func TestNewQueryReadsHistory(t *testing.T) {
	t.Parallel()
	f := fill(t, eventstest.Start, 300)
	some := plain()
	some.Queries = DefaultQueries()[:1]
	w := f.workerOf(some)
	half := len(f.deliveries) / 2
	if err := w.handle(t.Context(), f.deliveries[:half]); err != nil {
		t.Fatal(err)
	}
	deaths := 0
	for _, doom := range []stage{beforeCommit, afterCommit, duringPublish} { // in the midst of history
		next := f.worker()
		next.fault = func(at stage) error {
			if at == doom {
				deaths++
				return errKilled
			}
			return nil
		}
		if err := next.handle(t.Context(), f.deliveries[half:]); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
	}
	last := f.worker()
	if err := last.handle(t.Context(), f.deliveries[half:]); err != nil {
		t.Fatal(err)
	}
	if deaths != 3 {
		t.Errorf("%d deaths", deaths)
	}
	// Late events of history come behind those that were there: by what they are, they are the same.
	f.verifyUnordered(t, last)
}

// The order in which a subject's results were decided is the order that holds, whoever publishes when.
func TestRevisionsAndRetractionsArePublishedInOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start, shortMemory)
	w := s.worker()
	name := "customer-sessions"
	one := result{Key: "ann", Start: 1000, End: 2000, Count: 1, Value: 1, Revision: 1, Timing: "on_time", Sequence: 5}
	gone, longer := one, one
	gone.Revision, gone.Timing, gone.Sequence, gone.Count = 2, string(window.Retract), 8, 0
	longer.End, longer.Timing, longer.Sequence, longer.Count = 3000, "late", 8, 2
	again := longer
	again.Revision, again.Sequence, again.Count = 2, 9, 3
	rec := func(rs ...result) *record {
		return &record{Queries: []queryRecord{{Name: name}}, Outputs: outputs{Results: rs}}
	}
	first, second, third := rec(one), rec(gone, longer), rec(again)
	publish := func(w *worker, r *record) {
		if _, err := w.publisher.publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	publish(w, first)
	publish(w, second)
	publish(w, third)
	for _, r := range []*record{first, second, third, second, first} {
		publish(s.worker(), r) // another process, which remembers nothing
		publish(w, r)
	}
	var got []string
	for _, m := range s.stored(events.StreamWindows, "windows.") {
		r, err := resultIn(&m)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(r.Timing, " ", r.Revision, " ", r.Count))
	}
	if want := []string{"on_time 1 1", "retract 2 0", "late 1 2", "late 2 3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// Half of a chain is there: the other half follows.
	other := newShop(t, eventstest.Start, shortMemory)
	publish(other.worker(), first)
	publish(other.worker(), rec(gone))
	publish(other.worker(), second)
	if n := len(other.stored(events.StreamWindows, "windows.")); n != 3 {
		t.Errorf("%d results, want 3", n)
	}
}

func TestHealthSaysWhatStandsStill(t *testing.T) {
	t.Parallel()
	var h health
	for _, err := range []error{nil, errors.New("passes"), errOtherInstance} {
		if h.note(err); h.failing() != nil {
			t.Errorf("%v: %v", err, h.failing())
		}
	}
	for _, final := range []error{errLogLost, errOtherCounts, errForeign, errFormat, window.ErrOtherWindows} {
		if h.note(fmt.Errorf("wrapped: %w", final)); !errors.Is(h.failing(), final) {
			t.Errorf("%v: %v", final, h.failing())
		}
	}
	h.note(nil)
	h.note(errors.New("no space"))
	h.since = h.since.Add(-patient)
	if err := h.failing(); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("a fault that does not pass: %v", err)
	}
}
