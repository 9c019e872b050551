package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// progress is when each consumer group got something done, as the broker noted it: the store times of what the groups write.
type progress map[string][]time.Time

// readProgress reads the logs of the groups.
func readProgress(t *testing.T, js jetstream.JetStream) progress {
	t.Helper()
	p := make(progress)
	readTimes(t, js, events.StreamStock, func(subject, kind string, at time.Time) {
		if kind == events.TypeStockReserved {
			p.note("inventory", at)
			p.note("inventory, partition "+strings.Split(subject, ".")[2], at)
		}
	})
	readTimes(t, js, events.StreamOrders, func(subject, kind string, at time.Time) {
		switch kind {
		case events.TypeOrderPlaced:
			p.note("placed", at)
		case events.TypeOrderConfirmed:
			p.note("order-stock", at)
			p.note("order-stock, partition "+strings.Split(subject, ".")[1], at)
		}
	})
	readTimes(t, js, events.StreamNotices, func(subject, _ string, at time.Time) {
		p.note("notify", at)
		p.note("notify, partition "+strings.Split(subject, ".")[1], at)
	})
	readTimes(t, js, events.StreamWindows, func(subject, _ string, at time.Time) {
		if strings.HasPrefix(subject, "commit.") {
			p.note("analytics", at)
		}
	})
	return p
}

func (p progress) note(what string, at time.Time) { p[what] = append(p[what], at) }

// gaps are the longest times without progress within a span: of each group, and of the partition that stood still longest.
func (p progress) gaps(from, to time.Time) string {
	var out []string
	worst := map[string]time.Duration{}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		gap := longest(p[name], from, to)
		if group, _, partition := strings.Cut(name, ", partition "); partition {
			worst[group] = max(worst[group], gap)
		} else {
			out = append(out, fmt.Sprintf("%s %.1f s", name, gap.Seconds()))
		}
	}
	for _, group := range slices.Sorted(maps.Keys(worst)) {
		out = append(out, fmt.Sprintf("slowest partition of %s %.1f s", group, worst[group].Seconds()))
	}
	return strings.Join(out, ", ")
}

// readTimes hands over every message of a stream.
func readTimes(t *testing.T, js jetstream.JetStream, stream string, fn func(subject, kind string, at time.Time)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatalf("read %s: %v", stream, err)
	}
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{HeadersOnly: true})
	if err != nil {
		t.Fatalf("read %s: %v", stream, err)
	}
	for last := s.CachedInfo().State.LastSeq; last > 0; {
		batch, err := consumer.Fetch(1000, jetstream.FetchMaxWait(2*time.Second))
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("read %s: %v", stream, err)
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			fn(m.Subject(), m.Headers().Get("ce-type"), meta.Timestamp)
			if meta.Sequence.Stream >= last {
				return
			}
		}
	}
}
