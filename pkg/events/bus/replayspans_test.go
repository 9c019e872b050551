package bus_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// TestSpanOfAReplay: a replay comes much later and by somebody's decision, so its span begins a trace of its own. It is linked to the attempt that failed and to
// the event's producer.
func TestSpanOfAReplay(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(sdktrace.AlwaysSample()))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	f := newFixture(t, 1, single)
	if _, err := f.publisher(bus.Telemetry{Tracer: provider}).Publish(t.Context(), f.subjects.Order("k"), f.event("k")); err != nil {
		t.Fatal(err)
	}
	deps := f.deps(f.js)
	deps.Telemetry.Tracer = provider
	var calls atomic.Int64
	var inside atomic.Pointer[trace.SpanContext]
	f.joinOn(bus.GroupConfig{Handler: func(ctx context.Context, _ bus.Delivery) error {
		if calls.Add(1) == 1 {
			return fail.Permanent(errors.New("never"))
		}
		sc := trace.SpanContextFromContext(ctx)
		inside.Store(&sc)
		return nil
	}}, deps)
	eventstest.Eventually(t, 20*time.Second, "the event is a letter", func() bool { return len(f.letters()) == 1 })
	letter := f.letters()[0]
	job := f.job(deadletter.JobReplay)
	if sum := f.done(job).Sum(); sum.Resolved != 1 {
		t.Fatalf("replay: %+v", sum)
	}
	named := func(name string) (out []tracetest.SpanStub) {
		for _, s := range exporter.GetSpans() {
			if s.Name == name {
				out = append(out, s)
			}
		}
		return out
	}
	publish, process := named("publish orders.*.*"), named("process orders.*.*")
	if len(publish) != 1 || len(process) != 2 {
		t.Fatalf("%d spans of publishing and %d of processing, want 1 and 2", len(publish), len(process))
	}
	producer, failed, replay := publish[0], process[0], process[1]
	if failed.Status.Code != codes.Error || failed.Parent.SpanID() != producer.SpanContext.SpanID() {
		t.Errorf("the first attempt has status %s and is a child of %s", failed.Status.Code, failed.Parent.SpanID())
	}
	if replay.Parent.IsValid() || replay.SpanContext.TraceID() == producer.SpanContext.TraceID() {
		t.Errorf("the replay belongs to the trace %s under %s, want a root of its own", replay.SpanContext.TraceID(), replay.Parent.SpanID())
	}
	if inside.Load().SpanID() != replay.SpanContext.SpanID() {
		t.Error("the handler is not called in the replay's span")
	}
	linked := func(to tracetest.SpanStub) bool {
		return slices.ContainsFunc(replay.Links, func(l sdktrace.Link) bool {
			return l.SpanContext.SpanID() == to.SpanContext.SpanID() && l.SpanContext.TraceID() == to.SpanContext.TraceID()
		})
	}
	if len(replay.Links) != 2 || !linked(producer) || !linked(failed) {
		t.Errorf("the replay has the links %v, want the producer %s and the failed attempt %s", replay.Links, producer.SpanContext.SpanID(), failed.SpanContext.SpanID())
	}
	attributes := attribute.NewSet(replay.Attributes...)
	for key, want := range map[attribute.Key]string{"tidemark.dead_letter": letter.ID, "tidemark.job": job.ID} {
		if v, _ := attributes.Value(key); v.String() != want {
			t.Errorf("attribute %s is %q, want %q", key, v.String(), want)
		}
	}
}
