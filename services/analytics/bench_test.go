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
