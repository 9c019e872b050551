package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// long is an aggregate of many events among those of others, and the same with a snapshot that some events follow.
type long struct {
	subject          string
	plain, shortened store.Aggregate[int64]
}

// makeLong stores the events of one subject, each followed by those of three others, and leaves a snapshot before the last ones.
func makeLong(tb testing.TB, set setup, length, behind int) long {
	tb.Helper()
	s, bucket := set.open(tb), set.snapshots(tb, noTelemetry)
	l := long{subject: "ledger.long", plain: sum(s), shortened: sum(s)}
	l.shortened.Snapshots = &store.AggregateSnapshots[int64]{Bucket: bucket, Fold: "sum/1", Every: length - behind, Slow: -1}
	last := uint64(0)
	add := func(n int) {
		for i := range n {
			writes := []store.Write{{Subject: l.subject, Event: amount(1)}}
			for other := range 3 {
				writes = append(writes, store.Write{Subject: fmt.Sprintf("ledger.%d-%d", i, other), Event: amount(1)})
			}
			var err error
			if last, err = s.AppendAt(context.Background(), last, writes...); err != nil {
				tb.Fatal(err)
			}
		}
	}
	add(length - behind)
	l.load(tb, l.shortened, length-behind)
	if err := bucket.Flush(context.Background()); err != nil {
		tb.Fatal(err)
	}
	add(behind)
	return l
}

func (l long) load(tb testing.TB, a store.Aggregate[int64], want int) time.Duration {
	tb.Helper()
	began := time.Now()
	state, err := a.Load(context.Background(), l.subject)
	if took := time.Since(began); err == nil && state.Value == int64(want) {
		return took
	}
	tb.Fatalf("%+v, %v", state, err)
	return 0
}

// BenchmarkLoadLong loads an aggregate of 1,000 events with and without its snapshot, which stands at the end or 25 events before it: the average where one is left
// every 50 events. The two take turns, so that what else the machine does falls on both.
func BenchmarkLoadLong(b *testing.B) {
	const length = 1000
	for name, server := range clusters {
		for _, behind := range []int{0, 25} {
			b.Run(fmt.Sprintf("%s/%d-behind", name, behind), func(b *testing.B) {
				l := makeLong(b, start(b, server), length, behind)
				var whole, shortened time.Duration
				for b.Loop() {
					whole += l.load(b, l.plain, length)
					shortened += l.load(b, l.shortened, length)
				}
				b.ReportMetric(whole.Seconds()/shortened.Seconds(), "ratio")
				b.ReportMetric(float64(whole.Microseconds())/float64(b.N), "whole-µs/op")
				b.ReportMetric(float64(shortened.Microseconds())/float64(b.N), "snapshot-µs/op")
			})
		}
	}
}

// BenchmarkLoadByLength says from how many events on a snapshot pays.
func BenchmarkLoadByLength(b *testing.B) {
	for _, length := range []int{2, 5, 10, 20, 50, 100, 200} {
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			l := makeLong(b, start(b, eventstest.Start), length, 0)
			var whole, shortened time.Duration
			for b.Loop() {
				whole += l.load(b, l.plain, length)
				shortened += l.load(b, l.shortened, length)
			}
			b.ReportMetric(whole.Seconds()/shortened.Seconds(), "ratio")
			b.ReportMetric(float64(whole.Microseconds())/float64(b.N), "whole-µs/op")
			b.ReportMetric(float64(shortened.Microseconds())/float64(b.N), "snapshot-µs/op")
		})
	}
}
