package events_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
)

// full is an event with every attribute set.
func full() events.Event {
	return events.Event{
		ID: "aaaaaaaaaaaaaaaaaaaaaaaaaa", Source: "/tidemark/order", Type: events.TypeOrderPlaced, Subject: "536365",
		Time:            time.Date(2010, 12, 1, 8, 26, 0, 120_000_000, time.UTC),
		DataContentType: "application/json", DataSchema: events.SchemaURI(events.TypeOrderPlaced),
		CorrelationID: "536365", CausationID: "bbbbbbbbbbbbbbbbbbbbbbbbbb", PartitionKey: "536365", Version: 7,
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "shop=1",
		Extensions: map[string]string{"tenant": "london"}, Data: []byte(`{"a":1}`),
	}
}

func TestEncodeWritesEveryAttributeOnceAndInLowerCase(t *testing.T) {
	t.Parallel()
	e := full()
	h, data, err := events.Encode(&e)
	if err != nil {
		t.Fatal(err)
	}
	want := events.Header{
		"ce-specversion": {"1.0"}, "ce-id": {e.ID}, "ce-source": {"/tidemark/order"}, "ce-type": {"shop.order.placed.v1"}, "ce-subject": {"536365"},
		"ce-time": {"2010-12-01T08:26:00.12Z"}, "ce-datacontenttype": {"application/json"},
		"ce-dataschema":    {"https://tidemark.example/schemas/shop.order.placed.v1/1.0"},
		"ce-correlationid": {"536365"}, "ce-causationid": {e.CausationID}, "ce-partitionkey": {"536365"}, "ce-sequence": {"0000000007"},
		"ce-tenant": {"london"}, "traceparent": {e.TraceParent}, "tracestate": {"shop=1"},
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("headers:\n got %v\nwant %v", h, want)
	}
	if string(data) != `{"a":1}` {
		t.Errorf("data %q", data)
	}
}

// The vectors of the NATS binding's percent-encoding: space, double quote, percent and all outside of printable ASCII.
func TestAttributeValuesArePercentEncoded(t *testing.T) {
	t.Parallel()
	vectors := []struct{ value, header string }{
		{"plain", "plain"},
		{"BANK CHARGES", "BANK%20CHARGES"},
		{`a "quoted" word`, "a%20%22quoted%22%20word"},
		{"100%", "100%25"},
		{"%41", "%2541"},
		{"Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"},
		{"tab\tline\r\nend", "tab%09line%0D%0Aend"},
		{"del\x7f", "del%7F"},
		{"a.b*c>d/e:f", "a.b*c>d/e:f"},
		{"~!#$&'()+,-;<=>?@[\\]^_`{|}", "~!#$&'()+,-;<=>?@[\\]^_`{|}"},
	}
	for _, v := range vectors {
		e := full()
		e.Subject = v.value
		h, data, err := events.Encode(&e)
		if err != nil {
			t.Fatalf("%q: %v", v.value, err)
		}
		if got := h["ce-subject"][0]; got != v.header {
			t.Errorf("%q is encoded as %q, want %q", v.value, got, v.header)
		}
		back, err := events.Decode(h, data)
		if err != nil {
			t.Fatalf("%q: %v", v.value, err)
		}
		if back.Subject != v.value {
			t.Errorf("%q comes back as %q", v.value, back.Subject)
		}
	}
}

func minimal() events.Header {
	return events.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/x"}, "ce-type": {"t"}}
}

func TestDecodeReadsWhatOthersWrite(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(events.Header)
		check  func(events.Event) bool
	}{
		"names in any case": {
			func(h events.Header) { delete(h, "ce-id"); h["Ce-Id"] = []string{"2"}; h["CE-SUBJECT"] = []string{"s"} },
			func(e events.Event) bool { return e.ID == "2" && e.Subject == "s" },
		},
		"lower-case hexadecimal": {set("ce-subject", "%e2%82%ac"), func(e events.Event) bool { return e.Subject == "€" }},
		"needless encoding":      {set("ce-subject", "%41%42"), func(e events.Event) bool { return e.Subject == "AB" }},
		"raw UTF-8":              {set("ce-subject", "€"), func(e events.Event) bool { return e.Subject == "€" }},
		"time with an offset": {set("ce-time", "2011-03-31T10:00:00+01:00"), func(e events.Event) bool {
			return e.Time.Equal(time.Date(2011, 3, 31, 9, 0, 0, 0, time.UTC)) && e.Time.Location() == time.UTC
		}},
		"unknown attribute":       {set("ce-loyalty", "gold%20card"), func(e events.Event) bool { return e.Extensions["loyalty"] == "gold card" }},
		"content-type alone":      {set("Content-Type", "text/plain"), func(e events.Event) bool { return e.DataContentType == "text/plain" }},
		"datacontenttype wins":    {func(h events.Header) { h["content-type"] = []string{"a/b"}; h["ce-datacontenttype"] = []string{"c/d"} }, func(e events.Event) bool { return e.DataContentType == "c/d" }},
		"trace as header":         {set("Traceparent", "00-1"), func(e events.Event) bool { return e.TraceParent == "00-1" }},
		"trace as attribute":      {set("ce-traceparent", "00-2"), func(e events.Event) bool { return e.TraceParent == "00-2" && len(e.Extensions) == 0 }},
		"the hop's trace wins":    {func(h events.Header) { h["traceparent"] = []string{"00-1"}; h["ce-traceparent"] = []string{"00-2"} }, func(e events.Event) bool { return e.TraceParent == "00-1" }},
		"headers of the broker":   {set("Nats-Msg-Id", "9"), func(e events.Event) bool { return e.ID == "1" && len(e.Extensions) == 0 }},
		"sequence without zeroes": {set("ce-sequence", "12"), func(e events.Event) bool { return e.Version == 12 }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := minimal()
			c.change(h)
			e, err := events.Decode(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !c.check(e) {
				t.Errorf("read as %+v", e)
			}
		})
	}
}

func set(name, value string) func(events.Header) {
	return func(h events.Header) { h[name] = []string{value} }
}

func TestDecodeRefusesAndNamesTheHeader(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(events.Header)
		names  string
	}{
		"no specversion":          {func(h events.Header) { delete(h, "ce-specversion") }, "ce-specversion"},
		"another specversion":     {set("ce-specversion", "0.3"), `"0.3"`},
		"no id":                   {func(h events.Header) { delete(h, "ce-id") }, "id: required"},
		"empty source":            {set("ce-source", ""), "source: required"},
		"no type":                 {func(h events.Header) { delete(h, "ce-type") }, "type: required"},
		"time that is none":       {set("ce-time", "yesterday"), "ce-time"},
		"sequence that is none":   {set("ce-sequence", "-1"), "ce-sequence"},
		"cut percent-encoding":    {set("ce-subject", "a%2"), "ce-subject"},
		"no percent-encoding":     {set("ce-subject", "100%!!"), "ce-subject"},
		"no UTF-8":                {set("ce-subject", "\xff"), "ce-subject"},
		"no UTF-8 once decoded":   {set("ce-subject", "%FF"), "ce-subject"},
		"name with an underscore": {set("ce-my_name", "x"), "my_name"},
		"two values":              {func(h events.Header) { h["ce-id"] = []string{"1", "2"} }, "ce-id: is there more than once"},
		"two spellings":           {set("Ce-Id", "2"), "ce-id: is there more than once"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := minimal()
			c.change(h)
			_, err := events.Decode(h, nil)
			if !errors.Is(err, events.ErrUndecodable) {
				t.Fatalf("error %v, want ErrUndecodable", err)
			}
			if !strings.Contains(err.Error(), c.names) {
				t.Errorf("error %q does not name %q", err, c.names)
			}
		})
	}
}

func TestDecodeNamesEveryFaultInTheSameOrder(t *testing.T) {
	t.Parallel()
	h := events.Header{"ce-specversion": {"2"}, "ce-time": {"x"}, "ce-sequence": {"y"}, "ce-subject": {"%"}}
	_, first := events.Decode(h, nil)
	for range 50 {
		if _, again := events.Decode(h, nil); again.Error() != first.Error() {
			t.Fatalf("one time %q, another time %q", first, again)
		}
	}
	for _, name := range []string{"specversion", "time", "sequence", "subject", "id", "source", "type"} {
		if !strings.Contains(first.Error(), name) {
			t.Errorf("error does not name %s: %v", name, first)
		}
	}
}

func TestEncodeRefusesWhatNobodyCouldRead(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*events.Event){
		"no id":                     func(e *events.Event) { e.ID = "" },
		"no source":                 func(e *events.Event) { e.Source = "" },
		"no type":                   func(e *events.Event) { e.Type = "" },
		"no UTF-8":                  func(e *events.Event) { e.Subject = "\xff" },
		"no UTF-8 in an extension":  func(e *events.Event) { e.Extensions["tenant"] = "\xff" },
		"extension in upper case":   func(e *events.Event) { e.Extensions["Tenant"] = "x" },
		"extension with a field":    func(e *events.Event) { e.Extensions["sequence"] = "x" },
		"extension named too long":  func(e *events.Event) { e.Extensions[strings.Repeat("a", 21)] = "x" },
		"extension without a name":  func(e *events.Event) { e.Extensions[""] = "x" },
		"year of five digits":       func(e *events.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"extension of the envelope": func(e *events.Event) { e.Extensions["specversion"] = "1.0" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := full()
			change(&e)
			if _, _, err := events.Encode(&e); !errors.Is(err, events.ErrInvalidEvent) {
				t.Errorf("binary: error %v, want ErrInvalidEvent", err)
			}
			if _, err := events.EncodeJSON(&e); !errors.Is(err, events.ErrInvalidEvent) {
				t.Errorf("structured: error %v, want ErrInvalidEvent", err)
			}
		})
	}
}

// A trace context comes from callers. It must not become a header of its own, and must not cost the event either.
func TestBrokenTraceContextIsDropped(t *testing.T) {
	t.Parallel()
	e := full()
	e.TraceParent = "00-1\r\nNats-Expected-Last-Sequence: 0"
	e.TraceState = "é"
	h, _, err := events.Encode(&e)
	if err != nil {
		t.Fatal(err)
	}
	if v, there := h["traceparent"]; there {
		t.Errorf("traceparent %q", v)
	}
	if v, there := h["tracestate"]; there {
		t.Errorf("tracestate %q", v)
	}
}

// anyEvent draws events whose every attribute is any text.
func anyEvent(t *rapid.T) events.Event {
	text := rapid.StringN(0, 20, -1)
	some := rapid.StringN(1, 20, -1)
	e := events.Event{
		ID: some.Draw(t, "id"), Source: some.Draw(t, "source"), Type: some.Draw(t, "type"), Subject: text.Draw(t, "subject"),
		DataContentType: rapid.SampledFrom([]string{"application/json", "text/plain; charset=utf-8"}).Draw(t, "content type"),
		DataSchema:      text.Draw(t, "schema"), CorrelationID: text.Draw(t, "correlation"), CausationID: text.Draw(t, "causation"),
		PartitionKey: text.Draw(t, "key"), Version: rapid.Uint64().Draw(t, "version"),
		TraceParent: rapid.StringMatching(`[0-9a-f-]{0,55}`).Draw(t, "trace"),
		Data:        []byte(rapid.SampledFrom([]string{`{"a":1}`, `[]`, `"text"`, `null`}).Draw(t, "data")),
	}
	if rapid.Bool().Draw(t, "timed") {
		seconds := rapid.Int64Range(-62135596800+1, 253402300799).Draw(t, "seconds") // years 1 to 9999
		e.Time = time.Unix(seconds, rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
	}
	extensions := rapid.MapOfN(rapid.StringMatching(`x[a-z0-9]{0,19}`), some, 0, 4).Draw(t, "extensions")
	if len(extensions) > 0 {
		e.Extensions = extensions
	}
	return e
}

func TestBinaryModeKeepsEveryEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		h, data, err := events.Encode(&e)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range h {
			for _, c := range []byte(name + values[0]) {
				if c < '!' || c > '~' {
					t.Fatalf("header %s: %q holds byte %#x", name, values[0], c)
				}
			}
		}
		back, err := events.Decode(h, data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, e) {
			t.Fatalf("\n got %+v\nwant %+v", back, e)
		}
	})
}

func TestStructuredModeKeepsEveryEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		body, err := events.EncodeJSON(&e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := events.Decode(events.Header{"Content-Type": {"application/cloudevents+json; charset=UTF-8"}}, body)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, e) {
			t.Fatalf("\n got %+v\nwant %+v", back, e)
		}
	})
}

func TestEventWithoutDataHasNoContentType(t *testing.T) {
	t.Parallel()
	e := events.Event{ID: "1", Source: "/x", Type: "t"}
	h, data, err := events.Encode(&e)
	if err != nil {
		t.Fatal(err)
	}
	if len(h) != 4 || len(data) != 0 {
		t.Errorf("headers %v, data %q: want the four required attributes and nothing else", h, data)
	}
}

func TestKeyIsPartitionKeyThenSubjectThenID(t *testing.T) {
	t.Parallel()
	e := events.Event{ID: "id", Subject: "subject", PartitionKey: "key"}
	for _, want := range []string{"key", "subject", "id"} {
		if got := e.Key(); got != want {
			t.Errorf("key %q, want %q", got, want)
		}
		if e.PartitionKey != "" {
			e.PartitionKey = ""
		} else {
			e.Subject = ""
		}
	}
}
