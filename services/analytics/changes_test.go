package analytics

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// told is one event of a stream of changes.
type told struct {
	id   uint64
	kind string
	item windowItem
	data string
}

// watching reads a stream of changes until the test ends or the stream does.
type watching struct {
	tb     testing.TB
	events chan told
	stop   context.CancelFunc
}

func watch(tb testing.TB, url string, last uint64) *watching {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if last > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatUint(last, 10))
	}
	streams := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := streams.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		tb.Fatalf("%s: %s %v", url, res.Status, res.Header)
	}
	w := &watching{tb: tb, events: make(chan told, 4096), stop: cancel}
	begun, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer close(w.events)
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		var ev told
		for n := 0; lines.Scan(); n++ {
			if n == 0 {
				close(begun) // the first comment: the reader has joined
			}
			switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
			case "id":
				ev.id, _ = strconv.ParseUint(value, 10, 64)
			case "event":
				ev.kind = value
			case "data":
				ev.data = value
				_ = json.Unmarshal([]byte(value), &ev.item)
			case "":
				if ev.data != "" {
					w.events <- ev
				}
				ev = told{}
			}
		}
	}()
	tb.Cleanup(func() { cancel(); <-done })
	select {
	case <-begun:
	case <-time.After(patience):
		tb.Fatal("nothing comes, so it is held back somewhere")
	}
	return w
}

func (w *watching) next() told {
	w.tb.Helper()
	select {
	case ev, ok := <-w.events:
		if !ok {
			w.tb.Fatal("the stream has ended")
		}
		return ev
	case <-time.After(patience):
		w.tb.Fatal("no event comes")
	}
	return told{}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(minutes())
	all := watch(t, in.url+"/v1/windows/changes?query=orders-per-minute", 0)
	euros := watch(t, in.url+"/v1/windows/changes?query=revenue-per-minute&key=EUR", 0)
	for i := range 10 {
		s.place(fmt.Sprint(i), fmt.Sprintf("2010-12-01T08:%02d:00Z", 3*i), []string{"GBP", "EUR"}[i%2], 100)
	}
	var seen []told
	for i := range 9 {
		ev := all.next()
		if ev.item.Query != "orders-per-minute" || ev.item.Start.Minute() != 3*i || ev.item.Timing != "on_time" || ev.item.Count != 1 {
			t.Errorf("event %d: %+v", i, ev)
		}
		if i > 0 && ev.id <= seen[i-1].id {
			t.Errorf("id %d after %d", ev.id, seen[i-1].id)
		}
		seen = append(seen, ev)
	}
	for range 4 {
		if ev := euros.next(); ev.item.Key != "EUR" {
			t.Errorf("%+v", ev)
		}
	}
	// Who comes back misses nothing and gets nothing twice, also of what comes while it reads what it missed.
	back := watch(t, in.url+"/v1/windows/changes?query=orders-per-minute", seen[3].id)
	s.place("late", "2010-12-01T08:00:30Z", "GBP", 100)
	in.awaitRead("orders-per-minute", 11)
	in.awaitBackfill(in.startBackfill("").ID)
	for i := 4; i < 9; i++ {
		if ev := back.next(); ev.id != seen[i].id || ev.data != seen[i].data {
			t.Errorf("event %d: %+v, was %+v", i, ev, seen[i])
		}
	}
	for _, w := range []*watching{all, back} {
		if ev := w.next(); ev.item.Timing != "backfill" || ev.item.Revision != 2 || ev.item.Count != 2 {
			t.Errorf("%+v", ev)
		}
	}
	if status, body := in.do(http.MethodGet, "/v1/windows/changes?query=nonsense", nil, ""); status != http.StatusNotFound {
		t.Errorf("%d %s", status, body)
	}
}

// A server that stops ends its streams at once, and says so.
func TestChangesEndWithTheServer(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(minutes())
	mux := http.NewServeMux()
	in.svc.Routes(humago.New(mux, huma.DefaultConfig("test", "0")))
	server := httptest.NewServer(mux)
	defer server.Close()
	w := watch(t, server.URL+"/v1/windows/changes", 0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Errorf("the server waits for the stream: %v", err)
	}
	if ev := w.next(); ev.kind != "end" || ev.data != `{"reason":"stopping"}` {
		t.Errorf("%+v", ev)
	}
	if status, body := in.do(http.MethodGet, "/v1/windows/changes", nil, ""); status != http.StatusServiceUnavailable {
		t.Errorf("a stream begins while the server stops: %d %s", status, body)
	}
}

// A reader that does not keep up is cut off, others are not; and there is a limit to readers.
func TestSlowReadersAreCutOff(t *testing.T) {
	t.Parallel()
	f := newFeed()
	f.most = 2
	slow, quick := f.join("", nil), f.join("", nil)
	if f.join("", nil) != nil {
		t.Error("there is no limit")
	}
	for i := range uint64(readerRoom + 1) {
		f.tell(change{sequence: i})
		<-quick.room
	}
	select {
	case <-slow.ended:
	default:
		t.Fatal("the slow reader is still told")
	}
	if slow.why != endSlow || len(slow.room) != readerRoom || quick.why != "" {
		t.Errorf("slow: %q, %d waiting; quick: %q", slow.why, len(slow.room), quick.why)
	}
	if next := f.join("", nil); next == nil {
		t.Error("its place is not free")
	}
}
