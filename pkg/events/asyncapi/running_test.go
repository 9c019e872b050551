package asyncapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/asyncapi"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// running is what a broker says of itself.
type running struct {
	streams   map[string]jetstream.StreamConfig
	consumers map[string]jetstream.ConsumerConfig // by "STREAM/consumer"
}

func readRunning(t *testing.T, js jetstream.JetStream) running {
	t.Helper()
	r := running{streams: make(map[string]jetstream.StreamConfig), consumers: make(map[string]jetstream.ConsumerConfig)}
	streams := js.ListStreams(t.Context())
	for info := range streams.Info() {
		if strings.HasPrefix(info.Config.Name, "KV_") || strings.HasPrefix(info.Config.Name, "OBJ_") {
			continue // buckets are no part of the document
		}
		r.streams[info.Config.Name] = info.Config
		stream, err := js.Stream(t.Context(), info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		consumers := stream.ListConsumers(t.Context())
		for c := range consumers.Info() {
			r.consumers[info.Config.Name+"/"+c.Name] = c.Config
		}
		if err := consumers.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

// parsed is the part of a document that streams, groups and schemas are compared by.
type parsed struct {
	Channels   map[string]asyncapi.Channel   `json:"channels"`
	Operations map[string]asyncapi.Operation `json:"operations"`
	Components struct {
		Messages map[string]struct {
			Payload struct {
				Ref string `json:"$ref"`
			} `json:"payload"`
		} `json:"messages"`
		Schemas map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
	JetStream asyncapi.Streams `json:"x-jetstream"`
}

// differ names every point in which document, registry and broker don't say the same.
func differ(t *testing.T, raw []byte, r *events.Registry, broker running) []string {
	t.Helper()
	var doc parsed
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	return slices.Concat(differRegistry(t, &doc, r), differStreams(&doc, broker), differGroups(&doc, broker))
}

func differRegistry(t *testing.T, doc *parsed, r *events.Registry) (out []string) {
	t.Helper()
	for _, eventType := range r.Types() {
		raw, _ := r.Schema(eventType)
		var want map[string]any
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		delete(want, "$schema")
		var got map[string]any
		if raw := doc.Components.Schemas[eventType]; raw == nil || json.Unmarshal(raw, &got) != nil || !reflect.DeepEqual(got, want) {
			out = append(out, "schema of "+eventType+": the document has another one than the registry")
		}
		if ref := doc.Components.Messages[eventType].Payload.Ref; ref != "#/components/schemas/"+eventType {
			out = append(out, fmt.Sprintf("message %s: its payload is %q in the document", eventType, ref))
		}
		if !published(doc, eventType) {
			out = append(out, eventType+": the registry has it, and no channel of the document carries it")
		}
	}
	for name := range doc.Components.Schemas {
		if name != "cloudevents" && !slices.Contains(r.Types(), name) {
			out = append(out, "schema of "+name+": the document has it, the registry does not")
		}
	}
	return out
}

func published(doc *parsed, eventType string) bool {
	for _, c := range doc.Channels {
		if _, ok := c.Messages[eventType]; ok {
			return true
		}
	}
	return false
}

func differStreams(doc *parsed, broker running) (out []string) {
	for name, want := range doc.JetStream.Streams {
		config, ok := broker.streams[name]
		if !ok {
			out = append(out, "stream "+name+": the document has it, the broker does not")
			continue
		}
		got := asyncapi.DescribeStream(config)
		out = append(out, fields("stream "+name, reflect.ValueOf(want), reflect.ValueOf(got))...)
	}
	for name := range broker.streams {
		if _, ok := doc.JetStream.Streams[name]; !ok {
			out = append(out, "stream "+name+": the broker has it, the document does not")
		}
	}
	for name, c := range doc.Channels {
		config := broker.streams[c.JetStream.Stream]
		if !slices.ContainsFunc(config.Subjects, func(subject string) bool { return within(c.JetStream.Subject, subject) }) {
			out = append(out, fmt.Sprintf("channel %s: stream %s of the broker does not take %s", name, c.JetStream.Stream, c.JetStream.Subject))
		}
		if want := regexp.MustCompile(`\{[^.]*\}`).ReplaceAllString(c.Address, "*"); want != c.JetStream.Subject {
			out = append(out, fmt.Sprintf("channel %s: address %s and subject %s differ", name, c.Address, c.JetStream.Subject))
		}
	}
	return out
}

// within reports whether all that subject matches is matched by pattern, token by token.
func within(subject, pattern string) bool {
	s, p := strings.Split(subject, "."), strings.Split(pattern, ".")
	for i := range min(len(s), len(p)) {
		if p[i] != "*" && p[i] != s[i] {
			return false
		}
	}
	return len(s) == len(p)
}

func differGroups(doc *parsed, broker running) (out []string) {
	known := map[string]bool{}
	for name, o := range doc.Operations {
		if o.JetStream == nil {
			continue
		}
		g := *o.JetStream
		for p := range g.Partitions {
			consumer := g.Stream + "/" + strings.ReplaceAll(g.Consumer, "{p}", strconv.Itoa(p))
			known[consumer] = true
			config, ok := broker.consumers[consumer]
			if !ok {
				out = append(out, fmt.Sprintf("operation %s: the broker has no consumer %s", name, consumer))
				continue
			}
			got := asyncapi.DescribeConsumer(config)
			out = append(out, fields("consumer "+consumer, reflect.ValueOf(g.ConsumerSettings), reflect.ValueOf(got))...)
			if want := strings.ReplaceAll(g.Filter, "{p}", strconv.Itoa(p)); config.FilterSubject != want {
				out = append(out, fmt.Sprintf("consumer %s: filter is %q in the document, %q on the broker", consumer, want, config.FilterSubject))
			}
		}
	}
	for consumer := range broker.consumers {
		if !known[consumer] {
			out = append(out, "consumer "+consumer+": the broker has it, no operation of the document does")
		}
	}
	return out
}

// fields names the fields of two structs that differ.
func fields(what string, document, broker reflect.Value) (out []string) {
	for field, value := range document.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if got := broker.FieldByIndex(field.Index); !reflect.DeepEqual(value.Interface(), got.Interface()) {
			out = append(out, fmt.Sprintf("%s: %s is %v in the document, %v on the broker", what, name, value, got))
		}
	}
	return out
}

// The contract's three forms say the same: the document for people and tools, the registry that judges payloads, and what the broker really holds after the topology
// was applied.
func TestDocumentRegistryAndBrokerAgree(t *testing.T) {
	t.Parallel()
	s := eventstest.Start(t)
	topology := s.Apply(events.DefaultTopology(0))
	js := s.JetStream()
	raw, r := document(t, topology), registry(t)
	for _, difference := range differ(t, raw, r, readRunning(t, js)) {
		t.Error(difference)
	}
	if t.Failed() {
		return
	}
	t.Run("a difference of the document is named", func(t *testing.T) {
		broker := readRunning(t, js)
		for want, change := range map[string][2]string{
			"stream LATE: max_age is 721h0m0s in the document, 720h0m0s on the broker": {`"max_age": "720h0m0s"`, `"max_age": "721h0m0s"`},
			"max_ack_pending is 7 in the document, 2048 on the broker":                 {`"max_ack_pending": 2048`, `"max_ack_pending": 7`},
			"the document has another one than the registry":                           {`"maxLength": 128`, `"maxLength": 129`},
			"channel late: address lato.{reason}.{query}":                              {`"late.{reason}.{query}"`, `"lato.{reason}.{query}"`},
			"shop.event.late.v1: the registry has it, and no channel":                  {`"shop.event.late.v1": {` + "\n          \"$ref\"", `"shop.event.lost.v1": {` + "\n          \"$ref\""},
			"the broker has no consumer ORDERS/inventory-8":                            {`"partitions": 8,` + "\n        \"one_active", `"partitions": 9,` + "\n        \"one_active"},
			`filter is "stock.side.0.*" in the document, "stock.main.0.*"`:             {`"filter": "stock.main.{p}.*"`, `"filter": "stock.side.{p}.*"`},
		} {
			harmed := bytes.ReplaceAll(raw, []byte(change[0]), []byte(change[1]))
			if bytes.Equal(harmed, raw) {
				t.Errorf("%q is not in the document", change[0])
			}
			if got := strings.Join(differ(t, harmed, r, broker), "\n"); !strings.Contains(got, want) {
				t.Errorf("got %s\nwant %s", got, want)
			}
		}
	})
	t.Run("a difference of the broker is named", func(t *testing.T) {
		changed := topology
		changed.Streams = slices.Clone(topology.Streams)
		for i := range changed.Streams {
			if changed.Streams[i].Name == events.StreamLate {
				changed.Streams[i].MaxAge /= 2
			}
		}
		if err := bus.Apply(t.Context(), js, changed, 1); err != nil {
			t.Fatal(err)
		}
		if err := js.DeleteConsumer(t.Context(), events.StreamOrders, "notify-3"); err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SURPRISE", Subjects: []string{"surprise"}}); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(differ(t, raw, r, readRunning(t, js)), "\n")
		for _, want := range []string{
			"stream LATE: max_age is 720h0m0s in the document, 360h0m0s on the broker", "the broker has no consumer ORDERS/notify-3",
			"stream SURPRISE: the broker has it, the document does not",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("got %s\nwant %s", got, want)
			}
		}
	})
	t.Run("a difference of the registry is named", func(t *testing.T) {
		more, err := events.NewRegistry(extraSchema())
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(differ(t, raw, more, readRunning(t, js)), "\n")
		for _, want := range []string{"schema of shop.parcel.sent.v1: the document has another one", "shop.parcel.sent.v1: the registry has it, and no channel"} {
			if !strings.Contains(got, want) {
				t.Errorf("got %s\nwant %s", got, want)
			}
		}
	})
}
