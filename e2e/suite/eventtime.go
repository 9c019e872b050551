package suite

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/e2e/batch"
)

// cloudEvent is a click as a producer sends it.
type cloudEvent struct {
	SpecVersion string            `json:"specversion"`
	ID          string            `json:"id"`
	Source      string            `json:"source"`
	Type        string            `json:"type"`
	Time        time.Time         `json:"time"`
	Data        map[string]string `json:"data"`
}

func click(id, user, page string, at time.Time) cloudEvent {
	return cloudEvent{"1.0", id, "/e2e", "shop.page.clicked.v1", at.UTC(), map[string]string{"user": user, "page": page, "platform": "web"}}
}

// send sends clicks, which must be taken.
func (s *Shop) send(clicks ...cloudEvent) {
	s.Helper()
	for some := range slices.Chunk(clicks, 500) {
		if a := s.call(http.MethodPost, "/v1/clicks", some, map[string]string{"Content-Type": "application/cloudevents-batch+json"}); a.status != http.StatusAccepted {
			s.Fatalf("POST /v1/clicks: %s", a)
		}
	}
}

// window is a result as the API shows it.
type window struct {
	Query, Key   string
	Start, End   time.Time
	Value, Count int64
	Timing       string
	Top          []struct {
		Item  string
		Value int64
	}
}

// windows are those of a query that start in a time; of one key, or of all.
func (s *Shop) windows(name string, from, to time.Time, key ...string) (all []window) {
	s.Helper()
	args := []string{"query", name, "from", from.UTC().Format(time.RFC3339), "to", to.UTC().Format(time.RFC3339), "limit", "1000"}
	if len(key) > 0 {
		args = append(args, "key", key[0])
	}
	for cursor := ""; ; {
		var page struct {
			Items []window
			Next  string `json:"next_cursor"`
		}
		s.read("/v1/windows"+query(append(args, "cursor", cursor)...), &page)
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all
		}
	}
}

// clicks: what is sent twice under one id is counted once, in the window of the time at which it happened.
func clicks(s *Shop) {
	const each = 40
	page, now := "/"+s.name("page"), time.Now()
	hour := now.Truncate(time.Hour)
	var all []cloudEvent
	for i := range each {
		all = append(all, click(s.name(fmt.Sprint("click-", i)), s.name("ann"), page, now.Add(-time.Duration(i)*time.Millisecond)))
	}
	s.send(all...)
	s.send(all[:each/2]...)
	count := func() (n int64) {
		for _, w := range s.windows("clicks-per-page", hour.Add(-time.Hour), hour.Add(2*time.Hour), page) {
			n += w.Count
		}
		return n
	}
	s.until("the clicks are counted", func() bool { return count() >= each })
	end := s.name("last")
	s.send(click(end, s.name("ann"), page, now))
	s.until("one more is counted", func() bool { return count() > each })
	if n := count(); n != each+1 {
		s.Errorf("%d clicks are counted, want %d", n, each+1)
	}
	if a := s.call(http.MethodPost, "/v1/clicks", []cloudEvent{click("", "ann", page, now)}, map[string]string{"Content-Type": "application/cloudevents-batch+json"}); a.status != http.StatusUnprocessableEntity {
		s.Errorf("a click without an id: %s, want 422", a)
	}
}

// awaitToday waits until time has come to today: an event of the past is late then, and of today it is not.
func (s *Shop) awaitToday() {
	s.Helper()
	s.until("every watermark is of today", func() bool {
		s.send(click(s.name(fmt.Sprint("now-", time.Now().UnixNano())), s.name("clock"), "/"+s.name("clock"), time.Now()))
		var p struct {
			Queries []struct{ Watermark *time.Time }
		}
		s.read("/v1/projections/windows", &p)
		return len(p.Queries) > 0 && !slices.ContainsFunc(p.Queries, func(q struct{ Watermark *time.Time }) bool {
			return q.Watermark == nil || time.Since(*q.Watermark) > time.Hour
		})
	})
}

// quietDay is a day of the past in which nothing has happened here yet, so that all that happens in it is the case's own.
func (s *Shop) quietDay() time.Time {
	s.Helper()
	for range 100 {
		day := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rand.IntN(7000)) //nolint:gosec // chance, not a secret
		if len(s.windows("revenue-per-day", day.AddDate(0, 0, -3), day.AddDate(0, 0, 4)))+len(s.windows("clicks-per-page", day.AddDate(0, 0, -3), day.AddDate(0, 0, 4))) == 0 {
			return day
		}
	}
	s.Fatal("something has happened on a hundred days of the past: is this system what it seems?")
	return time.Time{}
}

// history is a day of a shop: orders and clicks at random times, some of the clicks sent twice, in no order.
func (s *Shop) history(day time.Time, orders, clicks int) (facts []batch.Fact, place []newOrder, send []cloudEvent) {
	random := rand.New(rand.NewPCG(uint64(day.Unix()), 1)) //nolint:gosec // reproducible from what is logged
	at := func() time.Time {
		return day.Add(12 * time.Hour).Add(time.Duration(random.Int64N(int64(8 * time.Hour)))).Truncate(time.Millisecond)
	}
	for i := range orders {
		f := batch.Fact{At: at(), Who: s.name(fmt.Sprint("c", i%15)), Units: make(map[string]int64)}
		o := newOrder{Customer: f.Who, Currency: "GBP", PlacedAt: f.At}
		if i >= orders-6 { // somebody in a hurry: all within ten seconds
			f.At = day.Add(14 * time.Hour).Add(time.Duration(i) * time.Second)
			f.Who = s.name("hasty")
			o.PlacedAt, o.Customer = f.At, f.Who
		}
		for l := range 1 + random.IntN(3) {
			sku, units := s.name(fmt.Sprint("SKU", random.IntN(10), "-", l)), 1+random.Int64N(4)
			f.Units[sku] += units
			f.Total += 250 * units
			o.Lines = append(o.Lines, line{sku, units, "2.50"})
		}
		facts, place = append(facts, f), append(place, o)
	}
	for i := range clicks {
		f := batch.Fact{At: at(), Who: s.name(fmt.Sprint("c", random.IntN(20))), Page: "/" + s.name(fmt.Sprint("p", random.IntN(5)))}
		facts = append(facts, f)
		c := click(s.name(fmt.Sprint("late-", i)), f.Who, f.Page, f.At)
		if send = append(send, c); i%10 == 0 {
			send = append(send, c)
		}
	}
	return facts, place, send
}

// lateEvents: a day of the past comes in today, so all of it is late. After a backfill, each query says of that day what counting everything at once gives.
func lateEvents(s *Shop) {
	s.awaitToday()
	day := s.quietDay()
	s.Logf("a quiet day: %s", day.Format(time.DateOnly))
	facts, place, send := s.history(day, 60, 120)
	for i, o := range place {
		s.placeWith(o, map[string]string{"Idempotency-Key": s.name(fmt.Sprint("late-", i))})
	}
	s.send(send...)
	late := func() (n int64) {
		var p struct{ Counted, Late int64 }
		s.read("/v1/windows"+query("query", "orders-per-minute", "limit", "1"), &p)
		return p.Late
	}
	s.until("the orders are known to be late", func() bool { return late() >= int64(len(place)) })
	var curves struct{ Items []json.RawMessage }
	if s.read("/v1/lateness", &curves); len(curves.Items) != len(batch.Queries()) {
		s.Errorf("how late events are is told of %d queries, want %d", len(curves.Items), len(batch.Queries()))
	}
	want := batch.Of(facts)
	var text string
	defer func() {
		if s.Failed() {
			s.Logf("of %d cells differ:\n%s", len(want), text)
		}
	}()
	s.until("a backfill makes the day what a batch says", func() bool {
		if out, status := s.verb("backfill", "--json"); out == "" { // its status tells of all windows, also of those that are not ours
			s.Fatalf("backfill: exit status %d", status)
		}
		var n int
		n, text = batch.Differences(s.answers(day), want)
		return n == 0
	})
}

// answers are what every query says about a day, and the two around it.
func (s *Shop) answers(day time.Time) map[batch.Cell]batch.Answer {
	s.Helper()
	all := make(map[batch.Cell]batch.Answer)
	for _, name := range batch.Queries() {
		for _, w := range s.windows(name, day.AddDate(0, 0, -1), day.AddDate(0, 0, 2)) {
			var top strings.Builder
			for _, rank := range w.Top {
				fmt.Fprintf(&top, "%s=%d;", rank.Item, rank.Value)
			}
			all[batch.Cell{Query: w.Query, Key: w.Key, Start: w.Start.UnixMilli(), End: w.End.UnixMilli()}] = batch.Answer{Windows: 1, Count: w.Count, Value: w.Value, Top: top.String()}
		}
	}
	return all
}
