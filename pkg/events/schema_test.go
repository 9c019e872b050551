package events_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

func newRegistry(tb testing.TB) *events.Registry {
	tb.Helper()
	r, err := events.NewRegistry()
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// catalogue reads the constants Type… from the source, so that a new type can't be forgotten here.
func catalogue(tb testing.TB) map[string]string {
	tb.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "catalogue.go", nil, 0)
	if err != nil {
		tb.Fatal(err)
	}
	types := make(map[string]string)
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			for i, name := range value.Names {
				if literal, ok := value.Values[i].(*ast.BasicLit); ok && strings.HasPrefix(name.Name, "Type") {
					s, err := strconv.Unquote(literal.Value)
					if err != nil {
						tb.Fatal(err)
					}
					types[s] = name.Name
				}
			}
		}
	}
	if len(types) < 15 {
		tb.Fatalf("found %d types in catalogue.go: does it still declare them as constants?", len(types))
	}
	return types
}

var sampleTime = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)

// samples has one full payload of each type, made of the payload structs.
func samples() map[string]any {
	lines := []events.Line{{SKU: "85123A", Quantity: 6}, {SKU: "BANK CHARGES", Quantity: 1}}
	notice := events.Notice{OrderID: "536365", OrderVersion: 2, Channel: "email", EventType: events.TypeOrderConfirmed}
	sent, skipped := notice, notice
	sent.MessageID = "536365.2.email@tidemark.example"
	skipped.Reason = "no address"
	return map[string]any{
		events.TypeOrderPlaced: events.OrderPlaced{
			OrderID: "536365", CustomerID: "17850", Currency: "GBP", PlacedAt: sampleTime, Total: 1530, RequestDigest: strings.Repeat("0f", 32),
			Lines: []events.Line{{SKU: "85123A", Quantity: 6, UnitPrice: 255}, {SKU: "FREE GIFT", Quantity: 1}},
		},
		events.TypeOrderConfirmed: events.OrderConfirmed{OrderID: "536365", CustomerID: "17850", Currency: "GBP", Total: 1530, PaymentID: "pay-1"},
		events.TypeOrderRejected:  events.OrderRejected{OrderID: "536365", CustomerID: "17850", Reason: events.ReasonOutOfStock, Detail: "85123A: 6 wanted, 2 there"},
		events.TypeOrderCancelled: events.OrderCancelled{OrderID: "536365", CustomerID: "17850", Reason: "changed my mind"},
		events.TypeStockReceived:  events.StockReceived{SKU: "85123A", Quantity: 500, ReceiptID: "r-1"},
		events.TypeStockReserved:  events.StockDecision{OrderID: "536365", OrderSeq: 1, Lines: lines},
		events.TypeStockRejected:  events.StockDecision{OrderID: "536365", OrderSeq: 1, Shortages: []events.Shortage{{SKU: "85123A", Requested: 6, Available: 2}}},
		events.TypeStockCommitted: events.StockDecision{OrderID: "536365", OrderSeq: 2, Lines: lines},
		events.TypeStockReleased:  events.StockDecision{OrderID: "536365", OrderSeq: 2, Lines: lines},
		events.TypeNoticeSent:     sent,
		events.TypeNoticeSkipped:  skipped,
		events.TypePageClicked:    events.PageClicked{User: "ann", Page: "/sale", Platform: "web"},
		events.TypeOrderDeadline:  events.OrderDeadline{OrderID: "536365", DueAt: sampleTime.Add(2 * time.Minute)},
		events.TypeWindowResult: events.WindowResult{
			Query: "orders-per-minute", Key: "all", Start: sampleTime, End: sampleTime.Add(time.Minute), Revision: 1, Timing: "on_time", Value: 3, Count: 3,
			Top: []events.Rank{{Item: "85123A", Value: 2}, {Item: "BANK CHARGES", Value: 1}}, Sequence: 7, Watermark: &sampleTime,
		},
		events.TypeAlertVelocity: events.VelocityAlert{CustomerID: "17850", Start: sampleTime, End: sampleTime.Add(10 * time.Second), Orders: 6},
		events.TypeEventLate: events.LateEvent{
			Query: "orders-per-minute", Reason: "too_late", EventID: "a", EventType: events.TypeOrderPlaced, EventTime: sampleTime,
			Watermark: sampleTime.Add(time.Hour), LateByMS: 3_600_000, Stream: events.StreamOrders, Sequence: 7,
			Missed: []events.Span{{Start: sampleTime, End: sampleTime.Add(time.Minute)}},
		},
	}
}

func TestEveryTypeHasASchemaAndEverySchemaAType(t *testing.T) {
	t.Parallel()
	r, types, payloads := newRegistry(t), catalogue(t), samples()
	for eventType, constant := range types {
		if _, ok := r.Schema(eventType); !ok {
			t.Errorf("%s = %q has no file schemas/%s.json: nobody could publish it", constant, eventType, eventType)
		}
		if _, ok := payloads[eventType]; !ok && r.Newest(eventType) == eventType { // an older version is read through its upcast and needs no struct
			t.Errorf("%s = %q has no sample in this test", constant, eventType)
		}
	}
	for _, eventType := range r.Types() {
		if types[eventType] == "" {
			t.Errorf("schemas/%s.json belongs to no constant of catalogue.go", eventType)
		}
	}
}

func TestPayloadStructsKeepTheirSchemas(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for eventType, payload := range samples() {
		e, err := events.New("/tidemark/test", eventType, "536365", sampleTime, payload)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Validate(&e); err != nil {
			t.Errorf("%s: %v", eventType, err)
		}
		if e.DataSchema != events.SchemaURI(eventType) || !events.ValidID(e.ID) {
			t.Errorf("%s: made as %+v", eventType, e)
		}
	}
}

// Struct and schema must name the same fields: one that only the struct has is never checked, one that only the schema has is never sent.
func TestPayloadStructsAndSchemasNameTheSameFields(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	// StockDecision and Notice are the payloads of several types, each of which has some of their fields.
	shared := map[string]string{
		events.TypeStockReserved: "shortages", events.TypeStockRejected: "lines", events.TypeStockCommitted: "shortages", events.TypeStockReleased: "shortages",
	}
	for eventType, payload := range samples() {
		raw, _ := r.Schema(eventType)
		var schema struct {
			Properties map[string]json.RawMessage `json:"properties"`
		}
		if err := json.Unmarshal(raw, &schema); err != nil {
			t.Fatal(err)
		}
		fields := make(map[string]bool)
		for field := range reflect.TypeOf(payload).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != shared[eventType] {
				fields[name] = true
			}
		}
		for name := range fields {
			if _, ok := schema.Properties[name]; !ok {
				t.Errorf("%s: field %s is in the struct only", eventType, name)
			}
		}
		for name := range schema.Properties {
			if !fields[name] {
				t.Errorf("%s: field %s is in the schema only", eventType, name)
			}
		}
	}
}

func TestValidateNamesEveryBrokenField(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	e := events.Event{Type: events.TypeOrderPlaced, Data: []byte(`{"order_id":"","customer_id":1,"currency":"gbp","placed_at":"x","lines":[{"sku":"a","quantity":0}],"total_minor":-1}`)}
	err := r.Validate(&e)
	if !errors.Is(err, events.ErrSchema) {
		t.Fatalf("error %v, want ErrSchema", err)
	}
	for _, field := range []string{"/order_id", "/customer_id", "/currency", "/placed_at", "/lines/0/quantity", "/total_minor", "request_digest", events.TypeOrderPlaced} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("error does not name %s: %v", field, err)
		}
	}
}

func TestValidateTellsKindsOfErrorsApart(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for name, c := range map[string]struct {
		e    events.Event
		want error
	}{
		"type of nobody": {events.Event{Type: "shop.order.lost.v1", Data: []byte(`{}`)}, events.ErrUnknownType},
		"later version":  {events.Event{Type: "shop.order.placed.v2", Data: []byte(`{}`)}, events.ErrUnknownType},
		"no JSON":        {events.Event{Type: events.TypePageClicked, Data: []byte(`{"user":`)}, events.ErrUndecodable},
		"no data":        {events.Event{Type: events.TypePageClicked}, events.ErrUndecodable},
		"not an object":  {events.Event{Type: events.TypePageClicked, Data: []byte(`[]`)}, events.ErrSchema},
		"field missing":  {events.Event{Type: events.TypePageClicked, Data: []byte(`{"user":"ann"}`)}, events.ErrSchema},
	} {
		if err := r.Validate(&c.e); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

func TestUnknownFieldsAreLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	e := events.Event{Type: events.TypePageClicked, Data: []byte(`{"user":"ann","page":"/","added_later":{"x":[1.5,null]}}`)}
	if err := r.Validate(&e); err != nil {
		t.Fatal(err)
	}
	p, err := events.Payload[events.PageClicked](&e)
	if err != nil || p.User != "ann" {
		t.Fatalf("payload %+v, %v", p, err)
	}
}

func TestRegistryTakesSchemasOfOthers(t *testing.T) {
	t.Parallel()
	// oneOf is a keyword that the catalogue does not use: the library judges it.
	r, err := events.NewRegistry(fstest.MapFS{"test.parcel.sent.v1.json": {Data: []byte(`{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}]}`)}})
	if err != nil {
		t.Fatal(err)
	}
	for data, valid := range map[string]bool{`{"a":1}`: true, `{"b":1}`: true, `{"a":1,"b":1}`: false, `{}`: false} {
		e := events.Event{Type: "test.parcel.sent.v1", Data: []byte(data)}
		if err := r.Validate(&e); (err == nil) != valid {
			t.Errorf("%s: error %v, want valid=%t", data, err, valid)
		}
	}
	for name, files := range map[string]fstest.MapFS{
		"replaces one of the catalogue": {events.TypePageClicked + ".json": {Data: []byte(`{}`)}},
		"is no JSON":                    {"test.x.v1.json": {Data: []byte(`{`)}},
		"is no schema":                  {"test.x.v1.json": {Data: []byte(`{"type":7}`)}},
	} {
		if _, err := events.NewRegistry(files); err == nil {
			t.Errorf("a schema that %s was taken", name)
		}
	}
}

func TestPayloadOfBrokenDataIsUndecodable(t *testing.T) {
	t.Parallel()
	e := events.Event{Type: events.TypePageClicked, Data: []byte(`{"user":1}`)}
	if _, err := events.Payload[events.PageClicked](&e); !errors.Is(err, events.ErrUndecodable) {
		t.Fatalf("error %v, want ErrUndecodable", err)
	}
}

func TestNewRefusesAPayloadThatIsNoJSON(t *testing.T) {
	t.Parallel()
	if _, err := events.New("/x", "t", "k", sampleTime, func() {}); err == nil || !strings.Contains(err.Error(), "payload") {
		t.Fatalf("error %v", err)
	}
}
