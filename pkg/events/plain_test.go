package events

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// plainTypes are the types of the catalogue that are read plainly, as a zero value each.
func plainTypes() []PlainObject {
	return []PlainObject{new(OrderPlaced), new(OrderConfirmed), new(StockDecision), new(PageClicked)}
}

// same checks what makes reading plainly safe: where it reads, encoding/json reads the same.
func same(tb interface{ Fatalf(string, ...any) }, v PlainObject, data []byte) (read bool) {
	if !ReadPlain(data, v) {
		return false
	}
	want := reflect.New(reflect.TypeOf(v).Elem())
	if err := json.Unmarshal(data, want.Interface()); err != nil {
		tb.Fatalf("%s is read into %T, and encoding/json says %v", data, v, err)
	}
	if !reflect.DeepEqual(v, want.Interface()) {
		tb.Fatalf("%s is read as\n%#v\nencoding/json reads\n%#v", data, v, want.Interface())
	}
	return true
}

// It faces outside.
func FuzzReadPlain(f *testing.F) {
	for i, s := range append(plainCases(), oddCases()...) {
		f.Add(i, []byte(s))
	}
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		all := plainTypes()
		same(t, all[uint(i)%uint(len(all))], data)
	})
}

func plainCases() []string {
	return []string{
		`{"order_id":"a","customer_id":"c","currency":"GBP","placed_at":"2011-03-31T10:00:00.123Z","lines":[{"sku":"€","quantity":1,"unit_price_minor":5},{"sku":"b","quantity":-2}],"total_minor":12,"request_digest":"d"}`,
		` { "order_seq" : 7 , "lines" : [ ] , "order_id" : "" , "shortages":[{"sku":"x","requested":3,"available":0}], "later":{"a":[1,"b",{"C":[]}]} } `,
		`{"user":"u","page":"/","platform":"web","user":"v"}`,
		"{}",
		`{"total_minor":-0,"placed_at":"2011-03-31T10:00:00+01:00"}`,
	}
}

func oddCases() []string {
	return []string{
		``, `null`, `[]`, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"order_id":"a"} x`, `{"order_id":1}`, `{"order_id":null}`, `{"ORDER_ID":"a"}`, `{"order_\u0069d":"a"}`, `{"order_id":"\n"}`,
		`{"total_minor":1.5}`, `{"total_minor":1e3}`, `{"total_minor":01}`, `{"total_minor":- 1}`, `{"total_minor":-}`, `{"total_minor":1234567890123456789}`, `{"order_seq":-1}`,
		`{"placed_at":"yesterday"}`, `{"lines":[{"sku":"a"}],"lines":[{"quantity":2}]}`, `{"lines":[],"lines":[{}]}`, `{"lines":[{},]}`, `{"lines":null}`, `{"x":tru}`, `{"x":true}`, `{"x":[1 2]}`,
		"{\"order_id\":\"\xff\"}", "{\"order_id\":\"a\tb\"}", `{"ſku":"a","order_id":"b"}`, `{"x":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}`,
	}
}

func TestPlainReadsTheUsual(t *testing.T) {
	t.Parallel()
	for i, s := range plainCases() {
		some := false
		for _, v := range plainTypes() {
			some = same(t, v, []byte(s)) || some
		}
		if !some {
			t.Errorf("case %d is read by no type: %s", i, s)
		}
	}
	for _, payload := range []any{
		OrderPlaced{OrderID: NewID(), CustomerID: "c", Currency: "GBP", PlacedAt: time.Now().UTC(), Lines: []Line{{SKU: "a", Quantity: 1, UnitPrice: 2}, {SKU: "b", Quantity: 3}}, Total: 2, RequestDigest: "d"},
		OrderConfirmed{OrderID: NewID(), CustomerID: "c", Currency: "GBP", Total: 1, PaymentID: "p"},
		StockDecision{OrderID: NewID(), OrderSeq: 1 << 40, Lines: []Line{{SKU: "a", Quantity: 1}}, Shortages: []Shortage{{SKU: "a", Requested: 2, Available: 1}}},
		PageClicked{User: "u", Page: "/p", Platform: "web"},
	} {
		data, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := reflect.TypeAssert[PlainObject](reflect.New(reflect.TypeOf(payload))); !ok || !same(t, v, data) {
			t.Errorf("%T, as our own services write it, takes the slow way", payload)
		}
	}
}

// What is odd is encoding/json's: its values, its errors, and nothing left of what was read before.
func TestPlainLeavesWhatIsOdd(t *testing.T) {
	t.Parallel()
	for _, s := range oddCases() {
		for _, v := range plainTypes() {
			same(t, v, []byte(s))
		}
		var got, want OrderPlaced
		err, wanted := UnmarshalPayload([]byte(s), &got), json.Unmarshal([]byte(s), &want)
		if !reflect.DeepEqual(got, want) || (err == nil) != (wanted == nil) || err != nil && err.Error() != wanted.Error() {
			t.Errorf("%s: %+v, %v; encoding/json: %+v, %v", s, got, err, want, wanted)
		}
	}
	half := []byte(`{"order_id":"a","lines":[{"sku":"x","quantity":1}],"total_minor":1,"currency":null}`)
	if got, err := Payload[OrderPlaced](&Event{Data: half}); err != nil || got.OrderID != "a" || len(got.Lines) != 1 || got.Total != 1 {
		t.Errorf("read in two goes: %+v, %v", got, err)
	}
}

func BenchmarkPayload(b *testing.B) {
	data := []byte(plainCases()[0])
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Payload[OrderPlaced](&Event{Data: data}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v OrderPlaced
			if err := json.Unmarshal(data, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
