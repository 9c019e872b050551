package order

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

func TestAnOrderAsItWas(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	id := i.placeOne("k", oneLine)
	i.answer(id, events.TypeStockReserved)
	i.await(id, "confirmed")
	path := "/v1/orders/" + id
	history := decode[struct{ Items []EventBody }](t, i.do(http.MethodGet, path+"/events", "")).Items
	if len(history) != 3 {
		t.Fatalf("%+v", history)
	}
	at := func(when time.Time) string { return url.QueryEscape(when.Format(time.RFC3339Nano)) }
	for moment, want := range map[string]struct {
		status  string
		version uint64
		last    int
	}{
		"1":                     {"placed", 1, 0},
		"2":                     {"confirmed", 2, 2},
		at(history[0].StoredAt): {"placed", 1, 0},
		at(history[1].StoredAt): {"reserved", 1, 1},
		at(history[1].StoredAt.In(time.FixedZone("", 7200))): {"reserved", 1, 1},
		at(history[2].StoredAt):                              {"confirmed", 2, 2},
		at(time.Now()):                                       {"confirmed", 2, 2},
	} {
		o := decode[OrderBody](t, i.do(http.MethodGet, path+"?as_of="+moment, ""))
		last := history[want.last]
		if o.Status != want.status || o.Version != want.version || len(o.Lines) != 1 || o.AsOf == nil || o.AsOf.Stream != last.Stream || o.AsOf.Sequence != last.Sequence {
			t.Errorf("as of %s: %+v, last event %+v", moment, o, o.AsOf)
		}
	}
	if o := decode[OrderBody](t, i.do(http.MethodGet, path, "")); o.AsOf != nil {
		t.Errorf("the order as it is: %+v", o.AsOf)
	}
	for moment, want := range map[string]struct {
		code int
		says string
	}{
		"3": {404, "no version 3 yet, its newest is 2"},
		at(history[0].StoredAt.Add(-time.Nanosecond)): {404, "it was stored at " + history[0].StoredAt.Format(time.RFC3339Nano)},
		"0":                           {422, "versions begin with 1"},
		"":                            {422, "must be a version"},
		"yesterday":                   {422, "must be a version"},
		"-1":                          {422, "must be a version"},
		"99999999999999999999":        {422, "must be a version"},
		"2026-01-02T15:04:05+01:00":   {422, "%2B"}, // the plus sign of a query is a space
		at(time.Now().Add(time.Hour)): {422, "future"},
	} {
		r := i.do(http.MethodGet, path+"?as_of="+moment, "")
		if r.code != want.code || !strings.Contains(string(r.raw), want.says) || r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("as of %q: %d %s, want %d and %q", moment, r.code, r.raw, want.code, want.says)
		}
		if want.code == http.StatusUnprocessableEntity && !slices.Equal(r.locations(t), []string{"query.as_of"}) {
			t.Errorf("as of %q: %s names another place", moment, r.raw)
		}
	}
	if r := i.do(http.MethodGet, "/v1/orders/nobody?as_of=1", ""); r.code != http.StatusNotFound || !strings.Contains(string(r.raw), ErrNotPlaced.Error()) {
		t.Errorf("an order that is not there: %d %s", r.code, r.raw)
	}
}

// stored puts the time of storing and the cause on an event that a test made.
func stored(r store.Recorded, at int, cause string) store.Recorded {
	r.StoredAt, r.CausationID = time.Unix(int64(at), 0).UTC(), cause
	return r
}

// Whatever the clocks of the two streams' leaders say, an answer stands behind its question, and each log keeps its order.
func TestInterleavingKeepsCausesFirst(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		clock := func() int { return rapid.IntRange(0, 9).Draw(r, "stored at") }
		placed := stored(placedEvent(t, 7, "o", "ann"), clock(), "")
		reserved := stored(stockEvent(t, 3, events.TypeStockReserved, "o", 7), clock(), placed.ID)
		confirmed := stored(endEvent(t, 9, events.TypeOrderConfirmed, "o"), clock(), reserved.ID)
		committed := stored(stockEvent(t, 5, events.TypeStockCommitted, "o", 9), clock(), confirmed.ID)
		if rapid.Bool().Draw(r, "the warehouse names no cause") {
			reserved.CausationID, committed.CausationID = "", ""
		}
		want := []store.Recorded{placed, reserved, confirmed, committed}
		got := interleave([]store.Recorded{placed, confirmed}, []store.Recorded{reserved, committed})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			r.Fatalf("got %v, want %v", got, want)
		}
	})
}

// Where nothing causes anything, the time of storing decides; and the state at a moment is the fold of what had been stored.
func TestPrefixOfAMoment(t *testing.T) {
	t.Parallel()
	placed := stored(placedEvent(t, 7, "o", "ann"), 10, "")
	reserved := stored(stockEvent(t, 3, events.TypeStockReserved, "o", 7), 11, placed.ID)
	cancelled := stored(endEvent(t, 9, events.TypeOrderCancelled, "o"), 12, "")
	released := stored(stockEvent(t, 4, events.TypeStockReleased, "o", 9), 13, cancelled.ID)
	all := interleave([]store.Recorded{placed, cancelled}, []store.Recorded{reserved, released})
	for _, c := range []struct {
		moment moment
		want   int
	}{
		{moment{version: 1}, 1}, {moment{version: 2}, 3}, {moment{version: 3}, 0},
		{moment{at: time.Unix(9, 0)}, 0}, {moment{at: time.Unix(10, 0)}, 1}, {moment{at: time.Unix(11, 5)}, 2}, {moment{at: time.Unix(12, 0)}, 3}, {moment{at: time.Unix(99, 0)}, 4},
	} {
		got, err := c.moment.prefix(all)
		if len(got) != c.want || (c.want == 0) != errors.Is(err, ErrNotThen) {
			t.Errorf("%+v: %d events, %v", c.moment, len(got), err)
		}
	}
}
