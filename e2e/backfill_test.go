package e2e_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/batch"
)

// backfilled runs a backfill and returns how many results it published; each query must be as a batch over the facts afterwards, and a second run must do nothing.
func backfilled(t *testing.T, u *up, facts []batch.Fact) {
	t.Helper()
	if n := runBackfill(t, u); n == 0 {
		t.Error("a backfill publishes nothing: the test shows nothing")
	}
	got, want := answers(t, results(t, u).windows), batch.Of(facts)
	if n, text := batch.Differences(got, want); n > 0 {
		t.Errorf("after a backfill, %d cells of %d differ from a batch:\n%s", n, len(want), text)
	}
	if n := runBackfill(t, u); n != 0 {
		t.Errorf("a second backfill publishes %d results", n)
	}
}

func runBackfill(t *testing.T, u *up) (published int) {
	t.Helper()
	out, status := verb(t, "backfill", "--to", u.url, "--json")
	var job struct {
		State   string
		Queries []struct{ Published, Retracted, Lost, Expired int }
	}
	if err := json.Unmarshal([]byte(out), &job); err != nil || status != 0 || job.State != "done" {
		t.Fatalf("exit status %d, %s", status, out)
	}
	for _, q := range job.Queries {
		published += q.Published + q.Retracted
		if q.Lost+q.Expired > 0 {
			t.Errorf("%+v", q)
		}
	}
	return published
}

// TestLoadIntoAnIdleSystem loads history into a system that has stood idle: time has gone on there, so all of it is late, and a backfill publishes every window.
func TestLoadIntoAnIdleSystem(t *testing.T) {
	t.Parallel()
	loadIntoIdle(t, 150, 0, "--idle", "1s")
}

func loadIntoIdle(t *testing.T, limit int, idle time.Duration, args ...string) {
	file := shopFile(t)
	orders, refused := readShop(t, file, limit)
	u := startUp(t, args...)
	began := time.Now()
	awaitStandings(t, u, "time goes on in a quiet system", func(q standing) bool {
		return q.Watermark != nil && time.Since(*q.Watermark) < time.Hour && time.Since(began) >= idle
	})
	loadHistory(t, u, file, limit, len(orders), refused)
	backfilled(t, u, orders)
	u.stop()
}

// TestLoadAfterAnOrderOfNow loads history into a system that has just taken an order.
func TestLoadAfterAnOrderOfNow(t *testing.T) {
	t.Parallel()
	const limit = 150
	file := shopFile(t)
	orders, refused := readShop(t, file, limit)
	u := startUp(t, "--bound", "1s", "--lateness", "1s", "--idle", "1s")
	now := hasty(t, u.url, time.Now().UTC().Truncate(time.Millisecond).Add(-10*time.Second))
	awaitStandings(t, u, "the order is counted", func(q standing) bool {
		return q.Watermark != nil && (q.Query == "clicks-per-page" || q.Read == len(now))
	})
	loadHistory(t, u, file, limit, len(orders), refused)
	// The newest windows, of today, come out when their time has come: here it is compared what is over.
	runBackfill(t, u)
	got, want := answers(t, results(t, u).windows), batch.Of(append(orders, now...))
	for _, set := range []map[batch.Cell]batch.Answer{got, want} {
		for c := range set {
			if c.End > now[0].At.Add(-time.Hour).UnixMilli() {
				delete(set, c)
			}
		}
	}
	if n, text := batch.Differences(got, want); n > 0 {
		t.Errorf("after a backfill, %d cells of %d differ from a batch:\n%s", n, len(want), text)
	}
	if n := runBackfill(t, u); n != 0 {
		t.Errorf("a second backfill publishes %d results", n)
	}
	u.stop()
}

// loadHistory loads the first invoices of the file. The load must say that they are late and what is to be done.
func loadHistory(t *testing.T, u *up, file string, limit, placed, refused int) {
	t.Helper()
	out, said, status := verbSays(t, "load", "--to", u.url, "--csv", file, "--limit", strconv.Itoa(limit), "--speed", "max", "--json")
	if s := decode(t, out); status != 0 || s.Placed != placed || s.Refused != refused {
		t.Fatalf("load says %+v (exit status %d), want %d placed and %d refused", s, status, placed, refused)
	}
	for _, want := range []string{"orders-per-minute: " + strconv.Itoa(placed) + " events; the event times from 2010-12-01T08:26:00Z to ", "Run tidemark backfill"} {
		if !strings.Contains(said, want) {
			t.Errorf("load says %q, want %q in it", said, want)
		}
	}
}
