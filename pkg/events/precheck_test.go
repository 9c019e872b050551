package events

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func registry(tb testing.TB) *Registry {
	tb.Helper()
	r, err := NewRegistry()
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// agree checks the one thing that makes the precheck safe: what it lets pass, the library lets pass.
func agree(tb interface{ Fatalf(string, ...any) }, r *Registry, eventType string, data []byte) (sure bool) {
	sure = r.prechecks[eventType].sure(data)
	err := validate(r.schemas[eventType], &Event{Type: eventType, Data: data})
	if sure && err != nil {
		tb.Fatalf("the precheck lets %s pass: %s\nthe library does not: %v", eventType, data, err)
	}
	return sure
}

// A value of every kind at every place of a valid payload.
func TestPrecheckNeverLetsPassWhatTheLibraryRefuses(t *testing.T) {
	t.Parallel()
	r := registry(t)
	rapid.Check(t, func(t *rapid.T) {
		eventType := rapid.SampledFrom(r.Types()).Draw(t, "type")
		var schema schemaNode
		if err := json.Unmarshal(r.raw[eventType], &schema); err != nil {
			t.Fatalf("%v", err)
		}
		names := schema.Properties.names
		if rapid.Bool().Draw(t, "shuffled") { // else as our own publishers write them
			names = rapid.Permutation(names).Draw(t, "names")
		}
		var fields []string
		for _, name := range names {
			if rapid.IntRange(0, 9).Draw(t, "there") > 0 {
				value, err := json.Marshal(anyValue(t, schema.Properties.byName[name]))
				if err != nil {
					t.Fatalf("%v", err)
				}
				fields = append(fields, strconv.Quote(name)+":"+string(value))
			}
		}
		agree(t, r, eventType, []byte("{"+strings.Join(fields, ",")+"}"))
	})
}

func anyValue(t *rapid.T, n *schemaNode) any {
	if rapid.IntRange(0, 9).Draw(t, "fitting") == 0 {
		n = &schemaNode{Type: rapid.SampledFrom([]string{"string", "integer", "null", "float", "bool"}).Draw(t, "kind")}
	}
	switch n.Type {
	case "object":
		out := map[string]any{}
		for name, child := range n.Properties.byName {
			if rapid.IntRange(0, 9).Draw(t, "there") > 0 {
				out[name] = anyValue(t, child)
			}
		}
		return out
	case "array":
		out := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			out = append(out, anyValue(t, n.Items))
		}
		return out
	case "integer":
		return rapid.OneOf(rapid.Int64Range(-2, 3), rapid.Int64()).Draw(t, "integer")
	case "null":
		return nil
	case "float":
		return rapid.Float64().Draw(t, "float")
	case "bool":
		return true
	}
	if len(n.Enum) > 0 {
		return rapid.SampledFrom(append([]string{"other"}, n.Enum...)).Draw(t, "enum")
	}
	if n.Format != "" {
		return rapid.SampledFrom([]string{
			"2011-03-31T10:00:00Z", "2011-03-31T10:00:00.123456789Z", "2011-02-29T10:00:00Z", "2012-02-29T10:00:00Z", "2011-04-31T10:00:00Z", "2011-13-01T10:00:00Z",
			"2011-00-01T10:00:00Z", "2011-01-00T10:00:00Z", "2011-01-01T24:00:00Z", "2011-01-01T23:60:00Z", "2016-12-31T23:59:60Z", "2011-01-01T00:00:00", "2011-01-01T00:00:00+01:00",
			"2011-01-01 00:00:00Z", "2011-01-01T00:00:00.Z", "2011-01-01T00:00:00,5Z", "2011-01-01t00:00:00z", "x",
		}).Draw(t, "time")
	}
	if n.Pattern != "" {
		return rapid.StringMatching(`[A-Z]{2,4}|[a-z]{3}`).Draw(t, "pattern")
	}
	return rapid.OneOf(rapid.StringN(0, 3, -1), rapid.StringN(60, 70, -1), rapid.StringN(250, 260, -1)).Draw(t, "text")
}

func FuzzPrecheck(f *testing.F) {
	r := registry(f)
	types := r.Types()
	for i := range types {
		f.Add(i, []byte(`{"order_id":"a","order_seq":1,"lines":[{"sku":"€","quantity":1}]}`))
		f.Add(i, []byte(` { "user" : "ann" , "page" : "\/a" } `))
	}
	f.Add(0, []byte(`{"user":"a","page":"b","user":1}`))
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		agree(t, r, types[uint(i)%uint(len(types))], data)
	})
}

// Payloads as our own services make them must take the fast way, or it is of no use.
func TestPrecheckKnowsOurOwnPayloads(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for _, eventType := range r.Types() {
		if r.prechecks[eventType] == nil {
			t.Errorf("the schema of %s uses a keyword that the precheck does not know: every %s takes the slow way", eventType, eventType)
		}
	}
	e := bigOrder(t)
	if !agree(t, r, e.Type, e.Data) {
		t.Error("an order of 25 lines takes the slow way")
	}
	for _, sku := range []string{"85123A", "BANK CHARGES", "€uro", strings.Repeat("é", 64)} {
		data := fmt.Sprintf(`{"sku":%q,"quantity":1,"receipt_id":"r"}`, sku)
		if !agree(t, r, TypeStockReceived, []byte(data)) {
			t.Errorf("%s takes the slow way", data)
		}
	}
}

// What is "don't know" must still be judged, rightly.
func TestValidateJudgesWhatThePrecheckDoesNotKnow(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for data, valid := range map[string]bool{
		`{"sku":"a\u0041","quantity":1,"receipt_id":"r"}`:                         true,
		`{"sku":"a","quantity":1.0,"receipt_id":"r"}`:                             true,
		`{"sku":"a","quantity":1e2,"receipt_id":"r"}`:                             true,
		`{"sku":"a","quantity":1.5,"receipt_id":"r"}`:                             false,
		`{"sku":"a","quantity":9223372036854775807,"receipt_id":"r"}`:             true,
		`{"sku":"a","quantity":0,"receipt_id":"r"}`:                               false,
		`{"sku":"a","quantity":01,"receipt_id":"r"}`:                              false,
		`{"sku":"a","quantity":1,"receipt_id":"r","bin":{"aisle":[1,2,null]}}`:    true,
		`{"sku":"` + strings.Repeat("€", 65) + `","quantity":1,"receipt_id":"r"}`: false,
		`{"sku":"a","quantity":1}`:                                                false,
		`{"sku":"a","quantity":1,"receipt_id":"r"}}`:                              false,
		`{"sku":"a","quantity":1,"receipt_id":"r"}]`:                              false,
		`{"sku":"a","quantity":1,"receipt_id":"r"} {}`:                            false,
		`{"sku":"a","quantity":1,"receipt_id":"r",}`:                              false,
		`{"sku":"a" "quantity":1,"receipt_id":"r"}`:                               false,
		`{}`: false, ``: false, `null`: false, `[]`: false, `{`: false, `"`: false, `{"sku`: false, `{"sku":`: false,
	} {
		agree(t, r, TypeStockReceived, []byte(data))
		err := r.Validate(&Event{Type: TypeStockReceived, Data: []byte(data)})
		if (err == nil) != valid {
			t.Errorf("%s: error %v, want valid=%t", data, err, valid)
		}
	}
}

func TestSchemaWithAnUnknownKeywordHasNoPrecheck(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{
		`{"type":"object","oneOf":[]}`, `{"type":"object","properties":{"a":{"type":"string","format":"email"}}}`, `{"type":"number"}`,
		`{"type":"object","required":["a"]}`, `{"type":"array"}`, `{"type":"object","properties":{"a":{"type":"string","pattern":"("}}}`, `[]`,
	} {
		if _, err := newPrecheck([]byte(schema)); err == nil {
			t.Errorf("%s: the precheck would overlook a rule", schema)
		}
	}
}

func bigOrder(tb testing.TB) Event {
	tb.Helper()
	at := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	p := OrderPlaced{OrderID: "536365", CustomerID: "17850", Currency: "GBP", PlacedAt: at, Total: 100, RequestDigest: strings.Repeat("a", 64)}
	for i := range 25 {
		p.Lines = append(p.Lines, Line{SKU: fmt.Sprintf("%05dA", i), Quantity: int64(i + 1), UnitPrice: 255})
	}
	e, err := New("/tidemark/order", TypeOrderPlaced, "536365", at, p)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// The two ways to judge an order of 25 lines: what a publish pays, and what it would pay without the precheck.
func BenchmarkValidate(b *testing.B) {
	r, e := registry(b), bigOrder(b)
	b.Run("way=precheck", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := r.Validate(&e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("way=library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := validate(r.schemas[e.Type], &e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	e := bigOrder(b)
	e.CausationID, e.Version, e.TraceParent = NewID(), 1, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	h, data, err := Encode(&e)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("do=encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := Encode(&e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("do=decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(h, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
