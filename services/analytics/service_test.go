package analytics

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestOrdersBecomeWindows(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	s.place("1", "2010-12-01T08:26:10Z", "GBP", 1000)
	s.place("2", "2010-12-01T08:26:50Z", "EUR", 250)
	s.place("3", "2010-12-01T08:26:20Z", "GBP", 5)  // out of order, within the bound
	s.place("4", "2010-12-01T08:28:00Z", "GBP", 70) // the watermark reaches 08:27
	s.place("5", "2010-12-01T08:26:59Z", "GBP", 9)  // late
	in.awaitRead("orders-per-minute", 5)

	page := in.windows("orders-per-minute")
	if got, want := lines(page), []string{"08:26 on_time [3,3]", "08:28 open [1,1]"}; !slices.Equal(got, want) {
		t.Errorf("orders: got %v, want %v", got, want)
	}
	if page.Counted != 4 || page.Late != 1 || page.Watermark == nil || page.Watermark.Format("15:04:05") != "08:27:00" {
		t.Errorf("orders: counted %d, late %d, watermark %v", page.Counted, page.Late, page.Watermark)
	}
	if got, want := lines(in.windows("revenue-per-minute")), []string{"EUR 08:26 on_time [1,250]", "GBP 08:26 on_time [2,1005]", "GBP 08:28 open [1,70]"}; !slices.Equal(got, want) {
		t.Errorf("revenue: got %v, want %v", got, want)
	}
	// A watermark of its own: orders of 2010 close no window of clicks, and the other way round.
	if page := in.windows("clicks-per-page"); len(page.Items) != 0 || page.Watermark != nil {
		t.Errorf("clicks: got %+v, want nothing", page)
	}
}

func TestResultsAndLateEventsAreStored(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(minutes())
	s.place("1", "2010-12-01T08:26:10Z", "GBP", 1000)
	s.place("2", "2010-12-01T08:28:00Z", "GBP", 70)
	s.place("3", "2010-12-01T08:26:59Z", "GBP", 9)
	in.awaitRead("revenue-per-minute", 3)
	eventstest.Eventually(t, patience, "the late events are stored", func() bool { return len(s.stored(events.StreamLate, "late.")) == 2 })

	var results []events.WindowResult
	for _, m := range s.stored(events.StreamWindows, "windows.") {
		ev, err := events.Decode(events.Header(m.Header), m.Data)
		if err != nil {
			t.Fatal(err)
		}
		r, err := events.Payload[events.WindowResult](&ev)
		if err != nil {
			t.Fatal(err)
		}
		if want := s.subjects.Window(r.Query, r.Key, r.Start.UnixMilli()); m.Subject != want || !ev.Time.Equal(r.End) {
			t.Errorf("on %s at %s, want %s at %s", m.Subject, ev.Time, want, r.End)
		}
		results = append(results, r)
	}
	start := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	want := []events.WindowResult{
		{Query: "orders-per-minute", Start: start, End: start.Add(time.Minute), Revision: 1, Timing: "on_time", Value: 1, Count: 1},
		{Query: "revenue-per-minute", Key: "GBP", Start: start, End: start.Add(time.Minute), Revision: 1, Timing: "on_time", Value: 1000, Count: 1},
	}
	for i := range results {
		if results[i].Sequence != 2 || results[i].Watermark == nil || results[i].Watermark.Format("15:04:05") != "08:27:00" {
			t.Errorf("came out at %d, %v", results[i].Sequence, results[i].Watermark)
		}
		results[i].Sequence, results[i].Watermark = 0, nil
	}
	if !reflect.DeepEqual(results, want) {
		t.Errorf("got %+v\nwant %+v", results, want)
	}
	for _, m := range s.stored(events.StreamLate, "late.") {
		ev, err := events.Decode(events.Header(m.Header), m.Data)
		if err != nil {
			t.Fatal(err)
		}
		l, err := events.Payload[events.LateEvent](&ev)
		if err != nil {
			t.Fatal(err)
		}
		if l.Reason != "too_late" || l.EventType != events.TypeOrderPlaced || l.LateByMS != 1000 || len(l.Missed) != 1 || !l.Missed[0].Start.Equal(start) ||
			l.Stream != events.StreamTimeline || m.Subject != s.subjects.Late("too_late", l.Query) || ev.CausationID != l.EventID {
			t.Errorf("on %s: %+v", m.Subject, l)
		}
	}
}

func TestHeartbeatsArePassedOver(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	eventstest.Eventually(t, patience, "two heartbeats are read", func() bool {
		var p projection
		in.get("/v1/projections/windows", &p)
		return p.Position[events.StreamTimeline] >= 2
	})
	if letters := s.stored(events.StreamDLQ, "dlq."); len(letters) > 0 {
		t.Errorf("heartbeats became dead letters: %v", letters[0].Header)
	}
	if records := s.stored(events.StreamWindows, "commit."); len(records) > 0 {
		t.Errorf("heartbeats alone were committed: %s", records[0].Data)
	}
}

func TestWhatCannotBeReadIsParkedAndTheRestFlows(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	s.place("1", "2010-12-01T08:26:10Z", "GBP", 1000)
	s.raw(s.subjects.Order("no-event"), nil, []byte("hello"))
	broken := order(t, "breach", "2010-12-01T08:26:11Z", "GBP", 1)
	broken.Data = []byte(strings.Replace(string(broken.Data), `"GBP"`, `"pounds"`, 1))
	s.rawEvent("breach", broken)
	broken = order(t, "no-json", "2010-12-01T08:26:12Z", "GBP", 1)
	broken.Data = []byte(`{"order_id":`)
	s.rawEvent("no-json", broken)
	broken = order(t, "no-time", "2010-12-01T08:26:12Z", "GBP", 1)
	broken.Time = time.Time{}
	s.rawEvent("no-time", broken)
	other := order(t, "other", "2010-12-01T08:26:12Z", "GBP", 1)
	other.Type, other.Data = "shop.order.shipped.v7", []byte(`"of a newer program"`)
	s.rawEvent("other", other) // no query takes it: not our business
	s.place("2", "2010-12-01T08:26:20Z", "GBP", 5)
	in.awaitRead("orders-per-minute", 5)

	var p projection
	in.get("/v1/projections/windows", &p)
	if p.Unreadable != 4 {
		t.Errorf("unreadable: got %d, want 4", p.Unreadable)
	}
	for _, q := range p.Queries[:2] {
		if q.Read != 5 || q.Counted != 2 || q.Unreadable != 3 || q.Read != q.Counted+q.Late+q.Duplicates+q.Unreadable {
			t.Errorf("got %+v", q)
		}
	}
	var reasons []string
	for _, m := range s.stored(events.StreamDLQ, "dlq.") {
		reasons = append(reasons, m.Header.Get(deadletter.HeaderReason))
	}
	if want := []string{"undecodable", "schema", "undecodable", "undecodable"}; !slices.Equal(reasons, want) {
		t.Errorf("dead letters: got %v, want %v", reasons, want)
	}
}

// rawEvent stores an order event whose payload nobody checks.
func (s *shop) rawEvent(id string, ev events.Event) {
	s.tb.Helper()
	header, data, err := events.Encode(&ev)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.raw(s.subjects.Order(id), nats.Header(header), data)
}

func TestAnotherInstanceTakesOver(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start, shortMemory)
	first := s.start(minutes())
	s.place("1", "2010-12-01T08:26:10Z", "GBP", 1000)
	first.awaitRead("orders-per-minute", 1)
	second := s.start(minutes())
	s.place("2", "2010-12-01T08:26:30Z", "GBP", 1)
	first.awaitRead("orders-per-minute", 2)
	if got := second.standing("orders-per-minute"); got.Counted != 2 { // from the journal
		t.Errorf("the standby says %+v", got)
	}
	first.stop()
	s.place("3", "2010-12-01T08:30:00Z", "GBP", 7)
	second.awaitRead("orders-per-minute", 3)
	if got, want := lines(second.windows("orders-per-minute")), []string{"08:26 on_time [2,2]", "08:30 open [1,1]"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	eventstest.Eventually(t, patience, "both results are stored", func() bool { return len(s.stored(events.StreamWindows, "windows.")) == 2 })
}

// A step that dies between commit and publish is finished by whoever comes next, and the closed windows are known after a restart.
func TestRestartBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start, shortMemory)
	s.place("1", "2010-12-01T08:26:10Z", "GBP", 1000)
	s.place("2", "2010-12-01T08:30:00Z", "GBP", 7)
	s.place("3", "2010-12-01T08:26:11Z", "GBP", 7)
	s.awaitTimeline(3)
	died := make(chan struct{}, 100)
	first := s.start(minutes(), func(svc *Service) {
		svc.worker.fault = func(at stage) error {
			if at == beforeCommit {
				return nil
			}
			select {
			case died <- struct{}{}:
			default:
			}
			return errors.New("killed")
		}
		svc.worker.publisher = nil // would panic: it is dead
	})
	<-died
	first.stop()
	if n := len(s.stored(events.StreamWindows, "windows.")); n != 0 {
		t.Fatalf("%d results are stored before their publication", n)
	}
	second := s.start(minutes())
	eventstest.Eventually(t, patience, "outputs are published", func() bool {
		return len(s.stored(events.StreamWindows, "windows.")) == 2 && len(s.stored(events.StreamLate, "late.")) == 2
	})
	second.stop()
	third := s.start(minutes())
	if got := lines(third.windows("orders-per-minute")); len(got) == 0 || got[0] != "08:26 on_time [1,1]" {
		t.Errorf("closed windows after a restart: %v", got)
	}
	s.place("4", "2010-12-01T08:30:01Z", "GBP", 7)
	third.awaitRead("orders-per-minute", 4)
	if got := third.standing("orders-per-minute"); got.Counted != 3 || got.Late != 1 {
		t.Errorf("got %+v", got)
	}
}

// awaitTimeline waits until TIMELINE has n events beside heartbeats.
func (s *shop) awaitTimeline(n int) {
	s.tb.Helper()
	eventstest.Eventually(s.tb, patience, "TIMELINE has "+strconv.Itoa(n)+" events", func() bool {
		found := 0
		for _, m := range s.stored(events.StreamTimeline, "") {
			if !strings.HasPrefix(m.Subject, "ticks.") {
				found++
			}
		}
		return found >= n
	})
}

func TestWindowsAreListedInPages(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	for i := range 6 {
		s.place("gbp"+strconv.Itoa(i), "2010-12-01T08:2"+strconv.Itoa(i)+":30Z", "GBP", 100)
		s.place("eur"+strconv.Itoa(i), "2010-12-01T08:2"+strconv.Itoa(i)+":30Z", "EUR", 200)
	}
	in.awaitRead("revenue-per-minute", 12)
	want := lines(in.windows("revenue-per-minute"))
	if len(want) != 12 || want[0] != "EUR 08:20 on_time [1,200]" || want[11] != "GBP 08:25 open [1,100]" {
		t.Fatalf("got %v", want)
	}
	for _, limit := range []int{1, 5, 11, 12, 13} {
		var got []string
		cursor, pages := "", 0
		for {
			var page windowsPage
			in.get("/v1/windows?query=revenue-per-minute&limit="+strconv.Itoa(limit)+"&cursor="+cursor, &page)
			got = append(got, lines(page)...)
			pages++
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) || pages != (12+limit-1)/limit {
			t.Errorf("limit %d: %d pages, %v", limit, pages, got)
		}
	}
	var page windowsPage
	in.get("/v1/windows?query=revenue-per-minute&from=2010-12-01T08:21:00Z&to=2010-12-01T08:23:00Z", &page)
	if got := lines(page); !slices.Equal(got, want[2:6]) {
		t.Errorf("from and to: got %v", got)
	}
	for path, wantStatus := range map[string]int{
		"/v1/windows?query=nothing": http.StatusNotFound, "/v1/windows": http.StatusUnprocessableEntity,
		"/v1/windows?query=orders-per-minute&cursor=!": http.StatusUnprocessableEntity, "/v1/windows?query=orders-per-minute&limit=0": http.StatusUnprocessableEntity,
	} {
		status, body := in.do(http.MethodGet, path, nil, "")
		if status != wantStatus {
			t.Errorf("%s: got %d %s, want %d", path, status, body, wantStatus)
		}
		if wantStatus == http.StatusNotFound && !strings.Contains(body, "orders-per-minute, revenue-per-minute, units-per-sku") {
			t.Errorf("the known queries are not named: %s", body)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if err := (Config{Default: &Settings{Bound: -time.Second}}).Validate(); err == nil || !strings.Contains(err.Error(), "Bound: must be 0 or more") {
		t.Errorf("got %v", err)
	}
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("no connection is not noticed")
	}
}
