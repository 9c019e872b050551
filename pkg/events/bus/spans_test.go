package bus_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

type spanStore struct {
	*tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
}

func newSpans(t *testing.T) spanStore {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(sdktrace.AlwaysSample()))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return spanStore{exporter, provider}
}

func (s spanStore) named(name string) (out []tracetest.SpanStub) {
	for _, span := range s.GetSpans() {
		if span.Name == name {
			out = append(out, span)
		}
	}
	return out
}

// await waits until there are as many spans of the name and returns them.
func (s spanStore) await(t *testing.T, n int, name string) (out []tracetest.SpanStub) {
	t.Helper()
	eventstest.Eventually(t, 20*time.Second, "spans: "+name, func() bool { out = s.named(name); return len(out) >= n })
	if len(out) != n {
		t.Fatalf("%d spans %q, want %d", len(out), name, n)
	}
	return out
}

func value(s tracetest.SpanStub, key attribute.Key) string {
	set := attribute.NewSet(s.Attributes...)
	v, _ := set.Value(key)
	return v.String()
}

func childAndLink(s, of tracetest.SpanStub) bool {
	return s.Parent.SpanID() == of.SpanContext.SpanID() && s.SpanContext.TraceID() == of.SpanContext.TraceID() &&
		slices.ContainsFunc(s.Links, func(l sdktrace.Link) bool { return l.SpanContext.SpanID() == of.SpanContext.SpanID() })
}

// TestSpansFromPublishToAck: publish, receive, each call of the handler, and the acknowledgement, in one trace.
func TestSpansFromPublishToAck(t *testing.T) {
	t.Parallel()
	s := newSpans(t)
	f := newFixture(t, 1, single)
	if _, err := f.publisher(bus.Telemetry{Tracer: s.provider}).Publish(t.Context(), f.subjects.Order("k"), f.event("k")); err != nil {
		t.Fatal(err)
	}
	deps := f.deps(f.js)
	deps.Telemetry.Tracer = s.provider
	var calls atomic.Int64
	f.joinOn(bus.GroupConfig{Retries: []time.Duration{time.Millisecond}, Handler: func(context.Context, bus.Delivery) error {
		if calls.Add(1) == 1 {
			return errors.New("once")
		}
		return nil
	}}, deps)
	ack := s.await(t, 1, "ack orders.*.*")[0]
	producer, received, process := s.await(t, 1, "publish orders.*.*")[0], s.await(t, 1, "receive orders.*.*")[0], s.await(t, 2, "process orders.*.*")
	if producer.SpanKind != trace.SpanKindProducer || received.SpanKind != trace.SpanKindClient || ack.SpanKind != trace.SpanKindClient {
		t.Errorf("kinds %s, %s, %s", producer.SpanKind, received.SpanKind, ack.SpanKind)
	}
	if !childAndLink(received, producer) || ack.Parent.SpanID() != process[1].SpanContext.SpanID() {
		t.Error("receive is not child and link of publish, or ack not child of the last process")
	}
	for i, p := range process {
		if p.SpanKind != trace.SpanKindConsumer || !childAndLink(p, producer) {
			t.Errorf("process %d: %s, not child and link of its producer", i, p.SpanKind)
		}
		for key, want := range map[attribute.Key]string{
			"messaging.system": "nats", "messaging.operation.type": "process", "messaging.consumer.group.name": "readers", "messaging.nats.stream": "ORDERS",
			"messaging.nats.stream.sequence": "1", "messaging.nats.delivery.count": "1", "messaging.destination.partition.id": "0",
			"messaging.destination.name": f.subjects.Order("k"), "messaging.destination.template": "orders.*.*", "tidemark.attempt": []string{"1", "2"}[i],
		} {
			if got := value(p, key); got != want {
				t.Errorf("process %d: %s is %q, want %q", i, key, got, want)
			}
		}
	}
}

// TestDeadlinesBeginATrace: what the broker publishes because its time has come is linked to whoever set the time, and in a trace of its own.
func TestDeadlinesBeginATrace(t *testing.T) {
	t.Parallel()
	s := newSpans(t)
	f := newFixture(t, 1, single, func(top *events.Topology) {
		full := events.DefaultTopology(1)
		timers, _ := full.Stream(events.StreamTimers)
		deadlines, _ := full.Group(events.GroupOrderDeadlines)
		top.Streams, top.Groups = append(top.Streams, timers), append(top.Groups, deadlines)
	})
	ev, err := events.New("/test", events.TypeOrderDeadline, "k", time.Now(), events.OrderDeadline{OrderID: "k", DueAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	publisher := f.publisher(bus.Telemetry{Tracer: s.provider})
	if _, err := publisher.Publish(t.Context(), f.subjects.Timer("k"), ev, jetstream.WithScheduleAt(time.Now().Add(time.Second)), jetstream.WithScheduleTarget(f.subjects.Timeout("k"))); err != nil {
		t.Fatal(err)
	}
	deps := f.deps(f.js)
	deps.Telemetry.Tracer = s.provider
	group, _ := f.topology.Group(events.GroupOrderDeadlines)
	f.joinOn(bus.GroupConfig{Group: group, Handler: func(context.Context, bus.Delivery) error { return nil }}, deps)
	producer := s.named("publish timers.*.*")[0].SpanContext
	p := s.await(t, 1, "process timeouts.*.*")[0]
	if p.Parent.IsValid() || len(p.Links) != 1 || p.Links[0].SpanContext.SpanID() != producer.SpanID() || p.SpanContext.TraceID() == producer.TraceID() {
		t.Errorf("parent %s, links %v, want one to %s", p.Parent.SpanID(), p.Links, producer.SpanID())
	}
}

// publishRaw stores the next event of a key with more headers.
func (f *fixture) publishRaw(key string, more nats.Header) {
	f.Helper()
	ev := f.event(key)
	header, data, err := events.Encode(&ev)
	if err != nil {
		f.Fatal(err)
	}
	maps.Copy(header, events.Header(more))
	f.store(&nats.Msg{Subject: f.subjects.Order(key), Header: nats.Header(header), Data: data})
}

// TestTracesOfOtherClients: producers that write the headers of Jaeger's old client or of Zipkin, in whatever spelling, are joined where OTEL_PROPAGATORS names them.
func TestTracesOfOtherClients(t *testing.T) {
	t.Parallel()
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	headers := map[string]nats.Header{
		"jaeger":            {"uber-trace-id": {id + ":" + span + ":0:1"}},
		"jaeger-canonical":  {"Uber-Trace-Id": {id + ":" + span + ":0:1"}},
		"jaeger-url":        {"UBER-TRACE-ID": {strings.ReplaceAll(id+":"+span+":0:1", ":", "%3A")}},
		"b3":                {"B3": {id + "-" + span + "-1"}},
		"b3-multi":          {"X-B3-Traceid": {id}, "X-B3-SpanId": {span}, "x-b3-sampled": {"1"}},
		"w3c-goes-first":    {"traceparent": {"00-" + id + "-" + span + "-01"}, "uber-trace-id": {strings.Repeat("1", 32) + ":" + strings.Repeat("2", 16) + ":0:1"}},
		"w3c-other-case":    {"TraceParent": {"00-" + id + "-" + span + "-01"}},
		"nothing":           {},
		"jaeger-unreadable": {"uber-trace-id": {"nonsense"}},
	}
	propagator, err := autoprop.TextMapPropagator("tracecontext", "baggage", "jaeger", "b3")
	if err != nil {
		t.Fatal(err)
	}
	s := newSpans(t)
	f := newFixture(t, 1, single)
	for key, h := range headers {
		f.publishRaw(key, h)
	}
	deps := f.deps(f.js)
	deps.Telemetry.Tracer, deps.Telemetry.Propagator = s.provider, propagator
	f.joinOn(bus.GroupConfig{Handler: func(context.Context, bus.Delivery) error { return nil }}, deps)
	for _, p := range s.await(t, len(headers), "process orders.*.*") {
		subject := value(p, "messaging.destination.name")
		key := subject[strings.LastIndexByte(subject, '.')+1:]
		joined := p.Parent.SpanID().String() == span && p.SpanContext.TraceID().String() == id && len(p.Links) == 1
		if wanted := key != "nothing" && key != "jaeger-unreadable"; joined != wanted {
			t.Errorf("%s: joined %t, want %t (parent %s of %s)", key, joined, wanted, p.Parent.SpanID(), p.SpanContext.TraceID())
		}
	}
}

// TestWhatIsComputedBeginsATrace: a result of many events is linked to where it was computed, and in a trace of its own.
func TestWhatIsComputedBeginsATrace(t *testing.T) {
	t.Parallel()
	s := newSpans(t)
	p := bus.NewPublishSpans(bus.Telemetry{Tracer: s.provider})
	ctx, batch := s.provider.Tracer("test").Start(t.Context(), "process")
	own, span := p.Derived(ctx, events.StreamWindows, 3)
	p.End(span, nil, "")
	encoder := bus.NewEncoder(registry(t), bus.Telemetry{Tracer: s.provider})
	ev, err := events.New("/test", events.TypeOrderCancelled, "k", time.Now(), events.OrderCancelled{OrderID: "k", CustomerID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := encoder.Encode(own, "x", ev)
	if err != nil {
		t.Fatal(err)
	}
	got := s.named("publish WINDOWS")[0]
	if got.Parent.IsValid() || len(got.Links) != 1 || got.Links[0].SpanContext.SpanID() != batch.SpanContext().SpanID() || value(got, "messaging.batch.message_count") != "3" {
		t.Errorf("parent %s, links %v", got.Parent.SpanID(), got.Links)
	}
	if !strings.Contains(m.Header.Get("traceparent"), got.SpanContext.TraceID().String()) {
		t.Errorf("the result carries %q", m.Header.Get("traceparent"))
	}
	if _, none := p.Derived(t.Context(), events.StreamWindows, 3); none.IsRecording() {
		t.Error("a span of what nobody traces")
	}
}

// TestLogLinesNameTheirEvent: id, key, group, attempt and trace; not the payload.
func TestLogLinesNameTheirEvent(t *testing.T) {
	t.Parallel()
	s := newSpans(t)
	f := newFixture(t, 1, single)
	ev := f.event("k")
	if _, err := f.publisher(bus.Telemetry{Tracer: s.provider}).Publish(t.Context(), f.subjects.Order("k"), ev); err != nil {
		t.Fatal(err)
	}
	logs := &lines{}
	deps := f.deps(f.js)
	deps.Telemetry.Tracer, deps.Telemetry.Logger = s.provider, slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.joinOn(bus.GroupConfig{Handler: func(context.Context, bus.Delivery) error { return nil }}, deps)
	var line string
	eventstest.Eventually(t, 20*time.Second, "a line of the event", func() bool { line = logs.with(`"msg":"handled"`); return line != "" })
	for _, want := range []string{`"level":"DEBUG"`, `"event_id":"` + ev.ID + `"`, `"key":"k"`, `"group":"readers"`, `"attempt":1`, `"type":"` + ev.Type + `"`} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is not in %s", want, line)
		}
	}
	if strings.Contains(line, "customer") {
		t.Errorf("the payload is in %s", line)
	}
}

type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

func (l *lines) with(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// TestSpansOfALog: one live event is handled in its trace, several together in a trace of their own that leads to all.
func TestSpansOfALog(t *testing.T) {
	t.Parallel()
	s := newSpans(t)
	f := newFixture(t, 1, single)
	p := f.publisher(bus.Telemetry{Tracer: s.provider})
	var messages []bus.Message
	for range 3 {
		messages = append(messages, bus.Message{Subject: f.subjects.Order("k"), Event: f.event("k")})
	}
	if _, err := p.PublishBatch(t.Context(), messages); err != nil {
		t.Fatal(err)
	}
	created := s.await(t, 3, "create orders.*.*")
	if batch := s.await(t, 1, "publish orders.*.*")[0]; len(batch.Links) != 3 || batch.SpanKind != trace.SpanKindClient || value(batch, "messaging.batch.message_count") != "3" {
		t.Errorf("the batch's publish: %s, %d links", batch.SpanKind, len(batch.Links))
	}
	deps := f.deps(f.server.JetStream())
	deps.Telemetry.Tracer = s.provider
	var position atomic.Uint64
	l, err := bus.NewLog(bus.LogConfig{
		Group: f.log, Position: func(context.Context) (uint64, error) { return position.Load(), nil },
		Handler: func(_ context.Context, ds []bus.Delivery) error { position.Store(ds[len(ds)-1].Sequence); return nil },
	}, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() { cancel(); <-done }()
	eventstest.Eventually(t, 20*time.Second, "the log is read", func() bool { return position.Load() == 3 })
	if _, err := p.Publish(t.Context(), f.subjects.Order("k"), f.event("k")); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, 20*time.Second, "the fourth event is read", func() bool { return position.Load() == 4 })
	var processes []tracetest.SpanStub
	eventstest.Eventually(t, 20*time.Second, "its span has ended", func() bool {
		processes = s.named("process ORDERS")
		return len(processes) > 1 && value(processes[len(processes)-1], "messaging.nats.stream.sequence") == "4"
	})
	last, producer := processes[len(processes)-1], s.named("publish orders.*.*")[1]
	if !childAndLink(last, producer) {
		t.Error("one event alone is not handled in its trace")
	}
	links := 0
	for _, b := range processes[:len(processes)-1] {
		links += len(b.Links)
		if len(b.Links) > 1 && (b.Parent.IsValid() || b.SpanContext.TraceID() == created[0].SpanContext.TraceID()) {
			t.Error("a batch belongs to the trace of one of its events")
		}
	}
	if links != 3 {
		t.Errorf("the batches lead to %d events, want 3", links)
	}
}
