package events

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestDecodeUsual: what the short way reads, the long way reads as the same.
func TestDecodeUsual(t *testing.T) {
	t.Parallel()
	usual := bigOrder(t)
	usual.CausationID, usual.Version, usual.TraceParent, usual.TraceState = NewID(), 7, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1"
	headers, data, err := Encode(&usual)
	if err != nil {
		t.Fatal(err)
	}
	headers["Nats-Msg-Id"] = []string{"x"}
	headers["X-Else"] = []string{"%"}
	if e := (Event{}); !e.decodeUsual(headers) {
		t.Error("what Encode writes is not read the short way")
	}
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	short := 0
	rapid.Check(t, func(t *rapid.T) {
		h := maps.Clone(headers)
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			if rapid.Bool().Draw(t, "gone") {
				delete(h, name)
				continue
			}
			spelled := rapid.SampledFrom([]string{name, name, strings.ToUpper(name), "ce-new", "ce-traceparent", HeaderContentType}).Draw(t, "spelled")
			h[spelled] = rapid.SliceOfN(rapid.SampledFrom([]string{"", "1", "a b", "%41", "%", "\xff", "2011-03-31T10:00:00+01:00", "0000-01-01T00:00:00Z", "1.0"}), 0, 2).Draw(t, "values")
		}
		got, want := Event{Data: data}, Event{Data: data}
		if !got.decodeUsual(h) {
			return
		}
		short++
		if err := want.decodeAny(h, data); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\n got %+v\nwant %+v (%v)", h, got, want, err)
		}
	})
	if short == 0 {
		t.Error("nothing was read the short way")
	}
}
