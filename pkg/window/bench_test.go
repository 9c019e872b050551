package window_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// BenchmarkApply is one event, with what it costs when its window fires: 20,000 events a minute of event time, 10 keys, disorder of some
// seconds. Ids are 26 characters, as the shop's are.
func BenchmarkApply(b *testing.B) {
	const distinct = 1 << 20
	ids, keys := make([]string, distinct), make([]string, 10)
	for i := range ids {
		ids[i] = "abcdefghijklmnop" + strconv.Itoa(1_000_000_000+i)
	}
	for i := range keys {
		keys[i] = "key-" + strconv.Itoa(i)
	}
	e := mustNew(b, window.Config{Windows: window.Tumbling(time.Minute, 0), Bound: time.Minute, Aggregate: window.Sum()})
	b.ReportAllocs()
	i, results := 0, 0
	for b.Loop() {
		stored := int64(i) * 3
		out := e.Apply(window.Event{ID: ids[i%distinct], Key: keys[i%len(keys)], Time: stored - int64(i*7919%5000), Stored: stored, Value: 1})
		results += len(out.Results)
		i++
	}
	if c := e.Counts(); c.Read() != c.Counted {
		b.Fatalf("not all were counted: %+v", c)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkSnapshot is the state of two minutes at 1,000 events a second.
func BenchmarkSnapshot(b *testing.B) {
	e := mustNew(b, window.Config{Windows: window.Tumbling(time.Minute, 0), Bound: time.Minute})
	for i := range int64(120_000) {
		e.Apply(window.Event{ID: strconv.FormatInt(i, 10), Time: i, Stored: i})
	}
	b.SetBytes(int64(len(e.Snapshot())))
	for b.Loop() {
		e.Snapshot()
	}
}
