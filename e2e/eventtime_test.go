package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/e2e/batch"
	"github.com/tidemark/tidemark/internal/natsd"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestEventTime is the first invoices of the shop, late and out of order, with clicks of which some are stored twice. The long test takes all of them.
func TestEventTime(t *testing.T) {
	t.Parallel()
	eventTime(t, 300)
}

// eventTime loads invoices and clicks into a real system in which every kind of lateness happens, and holds it to two promises: the same log read again gives the same
// bytes, and where nothing came late the results are those of a batch.
func eventTime(t *testing.T, limit int) {
	began := time.Now()
	step := func(what string) { t.Logf("%s: %s", time.Since(began).Round(time.Second), what) }
	file := shopFile(t)
	orders, refused := readShop(t, file, limit)
	clicks, arriving := clicksOf(orders, 2*len(orders), 1)
	data := filepath.Join(t.TempDir(), "data")
	history := waits(t)
	u := startUpOn(t, data, "--queries", history)

	clickstream := beside(t, u, arriving)
	out, status := verb(t, "load", "--to", u.url, "--csv", file, "--limit", strconv.Itoa(limit), "--speed", "max", "--late", "--seed", "1", "--json")
	if s := decode(t, out); status != 0 || s.Placed != len(orders) || s.Refused != refused {
		t.Fatalf("load says %+v (exit status %d), want %d placed and %d refused", s, status, len(orders), refused)
	}
	step("loaded")
	facts := slices.Concat(orders, hasty(t, u.url, orders[len(orders)/2].At), clicks)
	clickstream.finish(t)

	nOrders := len(facts) - len(clicks)
	reads := map[string]int{"clicks-per-page": len(arriving), "customer-sessions": nOrders + len(arriving)}
	hasRead := func(q standing) bool {
		if want, ok := reads[q.Query]; ok {
			return q.Read == want
		}
		return q.Read == nOrders
	}
	newest := map[bool]time.Time{} // by whether it is an order
	for _, f := range facts {
		if f.At.After(newest[f.IsOrder()]) {
			newest[f.IsOrder()] = f.At
		}
	}
	awaitStandings(t, u, "everything is read, and silence has brought every watermark to the newest event", func(q standing) bool {
		want := newest[q.Query != "clicks-per-page"]
		if q.Query == "customer-sessions" && newest[false].After(want) {
			want = newest[false]
		}
		return hasRead(q) && q.Watermark != nil && q.Watermark.Equal(want.Add(-bound))
	})
	step("read")
	streamed := results(t, u)
	t.Logf("streamed: %v, %d late", timings(t, streamed.windows), len(streamed.late))
	u.stop()
	step("stopped")

	t.Run("the same log again", func(t *testing.T) { again(t, data, streamed) })

	// The rest is for a system with the settings of every day: when the log is quiet, time goes on, and every window is over.
	u.args = append(slices.DeleteFunc(u.args, func(arg string) bool { return arg == "--queries" || arg == history }), "--idle", "1s")
	u.again(t)
	awaitStandings(t, u, "every window is over", func(q standing) bool {
		return hasRead(q) && q.Watermark != nil && q.Watermark.After(newest[true].AddDate(0, 0, 2))
	})
	step("all over")
	all := results(t, u)
	t.Logf("all over: %v, %d late", timings(t, all.windows), len(all.late))
	got, want := answers(t, all.windows), batch.Of(facts)
	forgive(t, all.late, got, want)
	if n, text := batch.Differences(got, want); n > 0 {
		t.Errorf("where nothing came late, streaming differs from a batch in %d cells of %d:\n%s", n, len(want), text)
	}
	backfilled(t, u, facts)
	step("backfilled")
}

// forgive leaves out the windows that some late event has missed, and sessions, of which one late event may change several.
func forgive(t *testing.T, late []stored, sets ...map[batch.Cell]batch.Answer) {
	t.Helper()
	missed := make(map[batch.Cell]bool)
	for _, m := range late {
		var l struct {
			Query  string
			Missed []struct{ Start, End time.Time }
		}
		if err := json.Unmarshal(m.data, &l); err != nil {
			t.Fatal(err)
		}
		for _, w := range l.Missed {
			missed[batch.Cell{Query: l.Query, Start: w.Start.UnixMilli(), End: w.End.UnixMilli()}] = true
		}
	}
	for _, set := range sets {
		maps.DeleteFunc(set, func(c batch.Cell, _ batch.Answer) bool {
			return c.Query == "customer-sessions" || missed[batch.Cell{Query: c.Query, Start: c.Start, End: c.End}]
		})
	}
}

// A bound and a lateness for which a good part of the invoices is on time, revises a result, misses some windows, or misses all.
const bound, lateness = 10 * time.Minute, time.Hour

// waits is a file of settings for history: while it comes in, silence must not move time to now.
func waits(t *testing.T) string {
	t.Helper()
	settings := make(map[string]any)
	for _, query := range []string{
		"orders-per-minute", "revenue-per-minute", "units-per-sku", "customer-sessions", "clicks-per-page", "order-velocity", "revenue-per-day",
	} {
		settings[query] = map[string]any{"bound": bound.String(), "lateness": lateness.String(), "idle": "2s", "idle_advance": false}
	}
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "queries.json")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// hasty places six orders of one customer within ten seconds of event time: the file's times are whole minutes, so nobody in it is so fast.
func hasty(t *testing.T, url string, at time.Time) (orders []batch.Fact) {
	t.Helper()
	for i := range 6 {
		f := batch.Fact{At: at.Add(time.Duration(i) * 1500 * time.Millisecond), Who: "hasty", Total: 250, Units: map[string]int64{"MUG": 1}}
		body := fmt.Sprintf(`{"customer":"hasty","currency":"GBP","placed_at":%q,"lines":[{"sku":"MUG","quantity":1,"unit_price":"2.50"}]}`, f.At.Format(time.RFC3339Nano))
		send(t, http.MethodPost, url+"/v1/orders", body, http.StatusAccepted)
		orders = append(orders, f)
	}
	return orders
}

// published is everything that analytics has given to the world.
type published struct {
	windows, late, alerts []stored
	verdicts              string // the counts by verdict, as the API tells them
}

func results(t *testing.T, u *up) published {
	t.Helper()
	_, js := connect(t, u, "operator")
	return published{
		windows: read(t, js, "WINDOWS", "windows.>"), late: read(t, js, "LATE", ">"), alerts: read(t, js, "ALERTS", ">"), verdicts: verdicts(t, u),
	}
}

func verdicts(t *testing.T, u *up) string {
	t.Helper()
	var all struct{ Queries []map[string]any }
	get(t, u.url+"/v1/projections/windows", &all)
	for _, q := range all.Queries {
		delete(q, "position") // heartbeats go on behind the log
	}
	return fmt.Sprint(all.Queries)
}

// again reads the same log from its beginning, in a copy of the data directory in which nothing that analytics has written is left. It happens later, with other steps, other
// commits and other heartbeats behind the log, and everything that comes out must be the same.
func again(t *testing.T, data string, first published) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	forget(t, dir)
	u := startUpOn(t, dir, "--queries", waits(t))
	_, js := connect(t, u, "operator")
	eventstest.Eventually(t, 2*time.Minute, "the log is read again, with the same verdicts", func() bool { return verdicts(t, u) == first.verdicts })
	eventstest.Eventually(t, time.Minute, "as many results are published", func() bool {
		return held(t, js, "WINDOWS", "windows.>") >= len(first.windows) && held(t, js, "LATE", ">") >= len(first.late)
	})
	second := results(t, u)
	for name, text := range map[string]string{
		"results": unlike(first.windows, second.windows), "late events": unlike(first.late, second.late), "alerts": unlike(first.alerts, second.alerts),
	} {
		if text != "" {
			t.Errorf("%s are other ones:\n%s", name, text)
		}
	}
	u.stop()
}

// forget removes from a store what analytics has written and how far it had read.
func forget(t *testing.T, dir string) {
	t.Helper()
	broker, err := natsd.Start(t.Context(), natsd.Config{Dir: dir, Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := broker.Stop(); err != nil {
			t.Error(err)
		}
	}()
	nc, err := broker.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{"WINDOWS", "LATE", "ALERTS"} {
		if err := js.DeleteStream(t.Context(), stream); err != nil {
			t.Errorf("%s: %v", stream, err)
		}
	}
	timeline, err := js.Stream(t.Context(), "TIMELINE")
	if err != nil {
		t.Fatal(err)
	}
	consumers := timeline.ConsumerNames(t.Context())
	for name := range consumers.Name() {
		if err := timeline.DeleteConsumer(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if err := consumers.Err(); err != nil {
		t.Fatal(err)
	}
}

// standing is what became of a query's events.
type standing struct {
	Query     string
	Read      int
	Watermark *time.Time
}

// awaitStandings waits until something is so of every query.
func awaitStandings(t *testing.T, u *up, what string, holds func(standing) bool) {
	t.Helper()
	eventstest.Eventually(t, 2*time.Minute, what, func() bool {
		var p struct{ Queries []standing }
		get(t, u.url+"/v1/projections/windows", &p)
		for _, q := range p.Queries {
			if !holds(q) {
				return false
			}
		}
		return len(p.Queries) > 0
	})
}
