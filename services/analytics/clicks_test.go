package analytics

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// clickHeader is a click's attributes in binary mode, changed by pairs of name and value; an empty value takes the name out.
func clickHeader(pairs ...string) http.Header {
	h := http.Header{
		"Content-Type": {"application/json"}, "Ce-Specversion": {"1.0"}, "Ce-Id": {"click-1"}, "Ce-Source": {"/web"}, "Ce-Type": {events.TypePageClicked},
		"Ce-Time": {"2011-03-31T10:00:00Z"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			h.Del(pairs[i])
		} else {
			h.Set(pairs[i], pairs[i+1])
		}
	}
	return h
}

const clickData = `{"user":"ann","page":"/sale","platform":"web"}`

func structured(id, members string) string {
	if members == "" {
		members = `"data":` + clickData
	}
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/app","type":%q,"time":"2011-03-31T10:00:00Z",%s}`, id, events.TypePageClicked, members)
}

func mode(contentType string) http.Header { return http.Header{"Content-Type": {contentType}} }

func TestClicksAreTakenInEveryMode(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	for _, c := range []struct {
		name   string
		header http.Header
		body   string
		want   string
	}{
		{"binary", clickHeader(), clickData, `{"accepted":1,"duplicates":0}`},
		{"binary, the same again", clickHeader(), clickData, `{"accepted":0,"duplicates":1}`},
		{"binary, the same id of another source", clickHeader("Ce-Source", "/tv"), clickData, `{"accepted":1,"duplicates":0}`},
		{"structured", mode("application/cloudevents+json; charset=utf-8"), structured("click-2", ""), `{"accepted":1,"duplicates":0}`},
		{"batch, one of them known", mode("application/cloudevents-batch+json"), "[" + structured("click-2", "") + "," + structured("click-3", "") + "]", `{"accepted":1,"duplicates":1}`},
		{"batch, one of them twice", mode("application/cloudevents-batch+json"), "[" + structured("click-4", "") + "," + structured("click-4", "") + "]", `{"accepted":1,"duplicates":1}`},
		{"an empty batch", mode("application/cloudevents-batch+json"), "[]", `{"accepted":0,"duplicates":0}`},
	} {
		status, body := in.do(http.MethodPost, "/v1/clicks", c.header, c.body)
		if status != http.StatusAccepted || !sameJSON(body, c.want) {
			t.Errorf("%s: got %d %s, want %s", c.name, status, body, c.want)
		}
	}
	in.awaitRead("clicks-per-page", 5)
	// click-1 of /web and of /tv are two clicks. The commit can be read a moment before the instance that wrote it shows what is open.
	want := []string{"/sale 10:00 open [5,5]"}
	eventstest.Eventually(t, patience, fmt.Sprintf("the open window is %v", want), func() bool {
		return slices.Equal(lines(in.windows("clicks-per-page")), want)
	})
}

func sameJSON(got, want string) bool {
	var a, b map[string]any
	if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		return false
	}
	delete(a, "$schema")
	return fmt.Sprint(a) == fmt.Sprint(b)
}

func TestClickIsStoredAsItWasSent(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	header := clickHeader("Ce-Id", `"a \"b\" %E2%82%AC%20x"`, "Ce-Tenant", "london", "Ce-Time", "", "Traceparent", parent)
	before := time.Now().Add(-time.Millisecond)
	if status, body := in.do(http.MethodPost, "/v1/clicks", header, `{"user":"a.b *>","page":"/sale"}`); status != http.StatusAccepted {
		t.Fatalf("got %d %s", status, body)
	}
	stored := s.stored(events.StreamClicks, "")
	if len(stored) != 1 {
		t.Fatalf("stored %d clicks", len(stored))
	}
	ev, err := events.Decode(events.Header(stored[0].Header), stored[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	if ev.ID != `a "b" € x` || ev.Extensions["tenant"] != "london" || ev.PartitionKey != "a.b *>" || ev.TraceParent != parent {
		t.Errorf("got %+v", ev)
	}
	if ev.Time.Before(before) || ev.Time.After(time.Now()) {
		t.Errorf("a click without a time got %s", ev.Time)
	}
	token := events.Token("a.b *>")
	if want := fmt.Sprintf("clicks.%d.%s", s.subjects.PartitionOf("a.b *>"), token); stored[0].Subject != want {
		t.Errorf("stored on %s, want %s", stored[0].Subject, want)
	}
}

func TestLongestUserIsTaken(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	user := strings.Repeat("😀", 256) // 3,072 bytes as a token
	if status, body := in.do(http.MethodPost, "/v1/clicks", clickHeader(), `{"user":"`+user+`","page":"/"}`); status != http.StatusAccepted {
		t.Fatalf("got %d %s", status, body)
	}
	in.awaitRead("clicks-per-page", 1)
}

func TestClicksThatAreNotValid(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	extensions := make([]string, 0, 34)
	for i := range 17 {
		extensions = append(extensions, fmt.Sprint("Ce-X", i), "1")
	}
	long := strings.Repeat("x", 129)
	structuredMode, batchMode := mode("application/cloudevents+json"), mode("application/cloudevents-batch+json")
	for _, c := range []struct {
		name   string
		header http.Header
		body   string
		status int
		want   []string
	}{
		{"no attributes", mode("application/json"), clickData, 422, []string{"ce-specversion: required", "id: required", "source: required"}},
		{"no id", clickHeader("Ce-Id", ""), clickData, 422, []string{"id: required"}},
		{"no source", clickHeader("Ce-Source", ""), clickData, 422, []string{"source: required"}},
		{"another type", clickHeader("Ce-Type", events.TypeOrderPlaced), clickData, 422, []string{"type: must be " + events.TypePageClicked}},
		{"another version of CloudEvents", clickHeader("Ce-Specversion", "0.3"), clickData, 422, []string{"specversion", "0.3"}},
		{"a time that is none", clickHeader("Ce-Time", "now"), clickData, 422, []string{"ce-time", "RFC 3339"}},
		{"a time in the year 9999", clickHeader("Ce-Time", "9999-12-31T23:59:59Z"), clickData, 422, []string{"time: must be in the years"}},
		{"broken percent-encoding", clickHeader("Ce-Id", "%zz"), clickData, 422, []string{"ce-id", "percent-encoding"}},
		{"a control character", clickHeader("Ce-Id", "a%0D%0AX: y"), clickData, 422, []string{"id: must not have control characters"}},
		{"an id that is too long", clickHeader("Ce-Id", long), clickData, 422, []string{"id: must have at most 128 characters, has 129"}},
		{"a source that is too long", clickHeader("Ce-Source", long+long), clickData, 422, []string{"source: must have at most 256"}},
		{"an extension that is too long", clickHeader("Ce-Tenant", long+long), clickData, 422, []string{"extension tenant: must have at most 256"}},
		{"too many extensions", clickHeader(extensions...), clickData, 422, []string{"extensions: must be at most 16, are 17"}},
		{"an extension name that is none", clickHeader("Ce-My_tenant", "x"), clickData, 422, []string{`extension "my_tenant"`}},
		{"data that is no JSON", clickHeader(), "user=ann", 422, []string{"no JSON"}},
		{"no data", clickHeader(), "", 400, []string{"body"}},
		{"no user", clickHeader(), `{"page":"/sale"}`, 422, []string{"user"}},
		{"an empty user", clickHeader(), `{"user":"","page":"/sale"}`, 422, []string{"/user"}},
		{"a platform that is none", clickHeader(), `{"user":"ann","page":"/","platform":"fridge"}`, 422, []string{"/platform"}},
		{"structured, no JSON", structuredMode, `{`, 422, []string{"not a JSON object"}},
		{"structured, no data", structuredMode, structured("1", `"subject":"x"`), 422, []string{"body", "payload"}},
		{"structured, id as a number", structuredMode, strings.Replace(structured("1", ""), `"1"`, "1", 1), 422, []string{"id: must be a string"}},
		{"batch, no array", batchMode, `{}`, 400, []string{"not a JSON array"}},
		{
			"batch, one bad", batchMode, "[" + structured("good", "") + "," + structured("bad", `"data":{"page":"/"}`) + "]", 422,
			[]string{`"body[1]"`, `"bad"`, "user", "1 of 2 clicks not valid; none is stored"},
		},
		{"batch, something else in it", batchMode, `[5]`, 422, []string{`"body[0]"`, "not a JSON object"}},
		{"batch, too many", batchMode, "[" + strings.Repeat("{},", 1000) + "{}]", 422, []string{"at most 1000 clicks, this one has 1001"}},
		{"too large", batchMode, "[" + strings.Repeat(" ", 1<<20) + "]", 413, nil},
	} {
		status, body := in.do(http.MethodPost, "/v1/clicks", c.header, c.body)
		if status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.name, status, body, c.status)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), want) {
				t.Errorf("%s: %q is not in %s", c.name, want, body)
			}
		}
		if strings.Contains(body, long) && len(body) > 4096 {
			t.Errorf("%s: the answer sends everything back", c.name)
		}
	}
	if stored := s.stored(events.StreamClicks, ""); len(stored) > 0 {
		t.Errorf("%d clicks were stored", len(stored))
	}
}

func TestClickDatedAheadIsLate(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	ahead := time.Now().AddDate(10, 0, 0).UTC().Format(time.RFC3339)
	for i, at := range []string{"", ahead, ""} {
		if status, body := in.do(http.MethodPost, "/v1/clicks", clickHeader("Ce-Id", fmt.Sprint(i), "Ce-Time", at), clickData); status != http.StatusAccepted {
			t.Fatalf("got %d %s", status, body)
		}
	}
	in.awaitRead("clicks-per-page", 3)
	if got := in.standing("clicks-per-page"); got.Counted != 2 || got.Late != 1 || got.Watermark.After(time.Now()) {
		t.Errorf("got %+v", got)
	}
	eventstest.Eventually(t, patience, "the click is in LATE", func() bool {
		return len(s.stored(events.StreamLate, s.subjects.Late("future_skew", "clicks-per-page"))) == 1
	})
}

func TestUnquote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		``: ``, `plain`: `plain`, `""`: ``, `"`: `"`, `"a b"`: `a b`, `"say \"ah\""`: `say "ah"`, `"back\\slash"`: `back\slash`, `"open`: `"open`, `"end\"`: `end\`,
	} {
		if got := unquote(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// FuzzClicks holds the intake to two rules: it never panics, and what it accepts can be stored and read.
//
// It faces outside.
func FuzzClicks(f *testing.F) {
	registry, err := events.NewRegistry()
	if err != nil {
		f.Fatal(err)
	}
	topology := events.DefaultTopology(2)
	c := newClickIntake(nil, registry, topology.Subjects())
	p := newPlan(Config{}.withDefaults(), &topology, registry)
	f.Add("application/json", "1", "/web", "x", []byte(clickData))
	f.Add("application/cloudevents+json", "", "", "", []byte(structured("1", "")))
	f.Add("application/cloudevents-batch+json", "", "", "", []byte("["+structured("1", "")+",{}]"))
	f.Fuzz(func(t *testing.T, contentType, id, source, tenant string, body []byte) {
		clicks, err := c.read(clickHeader("Content-Type", contentType, "Ce-Id", id, "Ce-Source", source, "Ce-Tenant", tenant), body)
		if err != nil {
			return
		}
		for i := range clicks {
			header, data, err := events.Encode(&clicks[i])
			if err != nil {
				t.Fatalf("%+v is accepted and can't be stored: %v", clicks[i], err)
			}
			back, err := events.Decode(header, data)
			if err != nil {
				t.Fatalf("%+v is accepted and can't be read: %v", clicks[i], err)
			}
			if _, err := p.check(&back); err != nil {
				t.Fatalf("%+v is accepted and can't be counted: %v", clicks[i], err)
			}
		}
	})
}
