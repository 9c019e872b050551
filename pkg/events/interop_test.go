package events_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/tidemark/tidemark/pkg/events"
)

// The SDK's NATS binding is a module of its own; its HTTP binding has the same attributes in the same binary mode, as "ce-" headers, and a header map is
// all that our codec knows of NATS. ASCII only: the SDK does not percent-encode.

func TestSDKReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	e := full()
	h, data, err := events.Encode(&e)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Type": h["ce-datacontenttype"]} // HTTP has a header of its own for this one attribute
	delete(h, "ce-datacontenttype")
	for name, values := range h {
		header[http.CanonicalHeaderKey(name)] = values
	}
	got, err := binding.ToEvent(t.Context(), cehttp.NewMessage(header, io.NopCloser(bytes.NewReader(data))))
	if err != nil {
		t.Fatal(err)
	}
	sameAsSDK(t, e, *got)
}

func TestWeReadWhatTheSDKWrites(t *testing.T) {
	t.Parallel()
	theirs := sdkEvent(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cehttp.WriteRequest(binding.WithForceBinary(context.Background()), binding.ToMessage(&theirs), request); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := events.Decode(events.Header(request.Header), body)
	if err != nil {
		t.Fatal(err)
	}
	sameAsSDK(t, ours, theirs)
}

func TestStructuredModeBothWays(t *testing.T) {
	t.Parallel()
	theirs := sdkEvent(t)
	body, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := events.DecodeJSON(body)
	if err != nil {
		t.Fatal(err)
	}
	sameAsSDK(t, ours, theirs)

	body, err = events.EncodeJSON(&ours)
	if err != nil {
		t.Fatal(err)
	}
	back := cloudevent.New()
	if err := json.Unmarshal(body, &back); err != nil {
		t.Fatal(err)
	}
	sameAsSDK(t, ours, back)
}

func sdkEvent(t *testing.T) cloudevent.Event {
	t.Helper()
	e := cloudevent.New()
	e.SetID("click-1")
	e.SetSource("/web/shop")
	e.SetType(events.TypePageClicked)
	e.SetSubject("ann")
	e.SetTime(time.Date(2011, 3, 31, 9, 0, 0, 250_000_000, time.UTC))
	e.SetDataSchema(events.SchemaURI(events.TypePageClicked))
	e.SetExtension("partitionkey", "ann")
	e.SetExtension("correlationid", "visit-7")
	e.SetExtension("causationid", "click-0")
	e.SetExtension("sequence", "0000000012")
	e.SetExtension("tenant", "london")
	if err := e.SetData("application/json", map[string]string{"user": "ann", "page": "/sale"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	return e
}

func sameAsSDK(t *testing.T, ours events.Event, theirs cloudevent.Event) {
	t.Helper()
	if err := theirs.Validate(); err != nil {
		t.Errorf("the SDK calls the event invalid: %v", err)
	}
	extension := func(name string) string {
		s, _ := theirs.Extensions()[name].(string)
		return s
	}
	for _, c := range []struct{ name, ours, theirs string }{
		{"id", ours.ID, theirs.ID()},
		{"source", ours.Source, theirs.Source()},
		{"type", ours.Type, theirs.Type()},
		{"subject", ours.Subject, theirs.Subject()},
		{"time", ours.Time.Format(time.RFC3339Nano), theirs.Time().Format(time.RFC3339Nano)},
		{"datacontenttype", ours.DataContentType, theirs.DataContentType()},
		{"dataschema", ours.DataSchema, theirs.DataSchema()},
		{"partitionkey", ours.PartitionKey, extension("partitionkey")},
		{"correlationid", ours.CorrelationID, extension("correlationid")},
		{"causationid", ours.CausationID, extension("causationid")},
		{"tenant", ours.Extensions["tenant"], extension("tenant")},
		{"data", string(ours.Data), string(theirs.Data())},
	} {
		if c.ours != c.theirs || c.ours == "" {
			t.Errorf("%s: we have %q, the SDK has %q", c.name, c.ours, c.theirs)
		}
	}
	if want := map[uint64]string{7: "0000000007", 12: "0000000012"}[ours.Version]; want == "" || extension("sequence") != want {
		t.Errorf("sequence: we have %d, the SDK has %q", ours.Version, extension("sequence"))
	}
}
