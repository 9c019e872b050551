package analytics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// How late events are is a function of the log: a restart from a base, or from the log alone, says the same.
func TestLatenessSurvivesRestarts(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(minutes())
	start := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC)
	for i := range 200 {
		at := start.Add(time.Duration(i) * time.Second)
		if i%20 == 19 {
			at = at.Add(-90 * time.Second) // 30 seconds and more behind the end of its minute, or a little less
		}
		s.place(fmt.Sprint(i), at.Format(time.RFC3339), "GBP", events.Minor(1))
	}
	in.awaitRead("orders-per-minute", 200)
	before := in.howLate()
	in.stop()
	next := s.start(minutes())
	next.awaitRead("orders-per-minute", 200)
	if after := next.howLate(); after != before {
		t.Errorf("after a restart:\n%s\nwas\n%s", after, before)
	}
	fromLog, err := newState(s.plan(minutes()))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range s.stored(events.StreamTimeline, "") {
		d := deliveryOf(&m, fromLog.plan)
		if _, err := fromLog.apply(&d, &outputs{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := next.svc.worker.view.own(t.Context(), func(now standing) {
		for i, r := range now.state.running {
			if want := fromLog.running[i].lateness.Snapshot(); !bytes.Equal(r.lateness.Snapshot(), want) {
				t.Errorf("%s: %x, from the log %x", r.Name, r.lateness.Snapshot(), want)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}

	var page latenessPage
	if err := json.Unmarshal([]byte(before), &page); err != nil {
		t.Fatal(err)
	}
	one := page.Items[0]
	if len(page.Items) != 2 || one.Query != "orders-per-minute" || one.Events != 199 || one.Slack < 180 || one.Now.BoundMS != 60_000 || one.Now.Cells == 0 {
		t.Errorf("%+v", page)
	}
	if p := one.Proposed; p.OnTime < 0.99 || p.Final < 0.9999 || !one.Reached || p.LatencyMS != p.BoundMS {
		t.Errorf("proposed %+v", p)
	}
}

// howLate is what an instance says of all queries, once it counts.
func (in *instance) howLate() string {
	in.tb.Helper()
	var answer string
	eventstest.Eventually(in.tb, patience, "the instance counts", func() (ok bool) {
		status, body := in.do(http.MethodGet, "/v1/lateness", nil, "")
		_, answer, ok = strings.Cut(body, `"items":`)
		return ok && status == http.StatusOK
	})
	return `{"items":` + answer
}

func TestLatenessIsChecked(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(minutes())
	in.howLate()
	for path, want := range map[string]int{
		"/v1/lateness?query=nonsense":                                http.StatusNotFound,
		"/v1/lateness?on_time=0.9&final=0.5":                         http.StatusUnprocessableEntity,
		"/v1/lateness?on_time=2":                                     http.StatusUnprocessableEntity,
		"/v1/lateness?query=orders-per-minute&on_time=0.5&final=0.5": http.StatusOK,
	} {
		if status, body := in.do(http.MethodGet, path, nil, ""); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}
