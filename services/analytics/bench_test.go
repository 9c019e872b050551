package analytics

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// BenchmarkBacklog is how fast an instance catches up: orders of three lines wait in TIMELINE, and are read, checked, counted by two
// queries, committed, published and acknowledged. Every 20th closes a minute.
func BenchmarkBacklog(b *testing.B) {
	s := newShop(b, eventstest.Start, withoutHeartbeats)
	begin := time.Now().UTC().Add(-time.Duration(b.N/20+10) * time.Minute).Truncate(time.Minute)
	for i := range b.N {
		id := fmt.Sprint("order-", i)
		at := begin.Add(time.Duration(i) * 3 * time.Second)
		ev := order(b, id, at.Format(time.RFC3339), "GBP", 255)
		header, data, err := events.Encode(&ev)
		if err != nil {
			b.Fatal(err)
		}
		msg := &nats.Msg{Subject: s.subjects.Order(id), Header: nats.Header(header), Data: data}
		if _, err := s.js.PublishMsgAsync(msg, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-s.js.PublishAsyncComplete()
	stream, err := s.js.Stream(b.Context(), events.StreamTimeline)
	if err != nil {
		b.Fatal(err)
	}
	eventstest.Eventually(b, time.Minute, "TIMELINE has all", func() bool {
		info, err := stream.Info(b.Context())
		return err == nil && info.State.LastSeq >= uint64(b.N)
	})
	svc, err := New(Config{}, Deps{NATS: s.server.Connect(), Topology: s.topology, Registry: s.registry, Telemetry: bus.Telemetry{}})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	stop := s.run(svc)
	defer stop()
	eventstest.Eventually(b, 5*time.Minute, "all is counted", func() bool {
		var at uint64
		err := svc.worker.view.look(b.Context(), func(now standing) { at = now.sequence })
		return err == nil && at >= uint64(b.N)
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkPublish is what the results of one window with many keys cost once they are committed: 1,200 of them, each a message of its own on top of what is there. An operation is a result.
func BenchmarkPublish(b *testing.B) {
	const keys, span = 1200, int64(60_000)
	s := newShop(b, eventstest.Start, withoutHeartbeats)
	w := s.workerOf(plain())
	names := w.plan.names()
	at := 0
	for i, name := range names {
		if name == "orders-per-minute" {
			at = i
		}
	}
	var sequence uint64
	b.ReportAllocs()
	for n := 0; n < b.N; n += keys {
		rec := record{}
		for _, name := range names {
			rec.Queries = append(rec.Queries, queryRecord{Name: name})
		}
		sequence++
		start := int64(sequence) * span //nolint:gosec // small
		watermark := start + 2*span
		for k := range min(keys, b.N-n) {
			rec.Outputs.Results = append(rec.Outputs.Results, result{
				Query: at, Key: fmt.Sprint("customer-", k), Start: start, End: start + span, Count: 3, Value: 7, Revision: 1, Timing: "on_time", Sequence: sequence, Watermark: &watermark,
			})
		}
		if _, err := w.publisher.publish(b.Context(), &rec); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBase is how long the longest step is held up by a base of 100,000 orders in open windows: where it is written in one go, and where each step does its share.
func BenchmarkBase(b *testing.B) {
	s := newShop(b, eventstest.Start, withoutHeartbeats)
	w := s.workerOf(plain())
	at := time.Now().UTC().Truncate(time.Minute)
	template := order(b, "template", at.Format(time.RFC3339), "GBP", 5)
	const n, batch = 100_000, 1000
	for from := 0; from < n; from += batch {
		ds := make([]bus.Delivery, batch)
		for i := range ds {
			ev := template
			ev.ID = fmt.Sprint(from + i)
			ds[i] = bus.Delivery{Event: ev, Stream: events.StreamTimeline, Sequence: uint64(from + i + 1), StoredAt: at} //nolint:gosec // small
		}
		if err := w.handle(b.Context(), ds); err != nil {
			b.Fatal(err)
		}
	}
	report := func(b *testing.B, longest time.Duration) {
		b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest")
		b.ReportMetric(float64(w.state.size())/(1<<20), "MiB")
	}
	b.Run("at_once", func(b *testing.B) {
		longest := time.Duration(0)
		for range b.N {
			began := time.Now()
			rec := recordOf(w.state)
			if err := w.writeBase(b.Context(), &rec); err != nil {
				b.Fatal(err)
			}
			longest = max(longest, time.Since(began))
		}
		report(b, longest)
	})
	b.Run("in_steps", func(b *testing.B) {
		longest := time.Duration(0)
		for range b.N {
			w.next = nextBase{draft: newDraft(w.state, w.now())}
			for w.next.stored == nil {
				began := time.Now()
				if err := w.prepareBase(); err != nil {
					b.Fatal(err)
				}
				longest = max(longest, time.Since(began))
			}
		}
		report(b, longest)
	})
}
