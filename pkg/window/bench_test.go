package window_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// stream is events in memory: 1,000 keys, ids of 26 characters as the shop's are, disorder of up to 5 s, one in a hundred stored twice, one in a hundred
// a minute behind. It repeats, moved on in time and with other ids.
type benchStream struct {
	events []window.Event
	span   int64 // of event time
	next   int
	lap    int
}

func newBenchStream(perSecond int) *benchStream {
	const distinct = 1 << 20
	r := rand.New(rand.NewPCG(1, 2))
	s := &benchStream{events: make([]window.Event, distinct), span: int64(distinct) * 1000 / int64(perSecond)}
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = "key-" + strconv.Itoa(i)
	}
	for i := range s.events {
		stored := int64(i) * 1000 / int64(perSecond)
		ev := window.Event{
			ID: benchID(0, i), Key: keys[r.IntN(len(keys))], Item: keys[r.IntN(20)],
			Time: stored - r.Int64N(5000), Stored: stored, Value: 1,
		}
		switch r.IntN(100) {
		case 0:
			if i > 0 {
				ev = s.events[i-1]
				ev.Stored = stored
			}
		case 1:
			ev.Time -= 60_000
		}
		s.events[i] = ev
	}
	return s
}

func benchID(lap, i int) string {
	return "abcdefghijkl" + strconv.Itoa(1000+lap) + strconv.Itoa(1_000_000_000+i)
}

func (s *benchStream) take(b *testing.B) *window.Event {
	if s.next == len(s.events) {
		b.StopTimer()
		s.repeat()
		b.StartTimer()
	}
	s.next++
	return &s.events[s.next-1]
}

func (s *benchStream) repeat() {
	s.next = 0
	s.lap++
	before := ""
	for i := range s.events {
		ev := &s.events[i]
		ev.Time += s.span
		ev.Stored += s.span
		if ev.ID == before { // stored twice
			ev.ID = s.events[i-1].ID
			continue
		}
		before = ev.ID
		ev.ID = benchID(s.lap, i)
	}
}

// BenchmarkApply is one event with everything on, with what it costs when its windows fire and its id is forgotten. The number of ids in live windows is
// what makes the difference: it is the name's second part.
func BenchmarkApply(b *testing.B) {
	minute := func(windows window.Windows, aggregate window.Aggregate) window.Config {
		return window.Config{Windows: windows, Aggregate: aggregate, Bound: 5 * time.Second, Lateness: 10 * time.Second, Idle: time.Minute}
	}
	for _, c := range []struct {
		name      string
		perSecond int
		cfg       window.Config
	}{
		{"tumbling-count", 1000, minute(window.Tumbling(time.Minute, 0), window.Count())},
		{"tumbling-count", 10_000, minute(window.Tumbling(time.Minute, 0), window.Count())},
		{"tumbling-count-4-partitions", 1000, func() window.Config {
			cfg := minute(window.Tumbling(time.Minute, 0), window.Count())
			cfg.Partitions = 4
			return cfg
		}()},
		{"hopping-5m-1m-sum", 1000, minute(window.Hopping(5*time.Minute, time.Minute, 0), window.Sum())},
		{"session-2s-count", 1000, minute(window.Session(2*time.Second), window.Count())},
		{"calendar-day-count", 1000, minute(window.Calendar(window.Day, "Europe/London"), window.Count())},
		{"tumbling-top-10", 1000, minute(window.Tumbling(time.Minute, 0), window.Top(10))},
	} {
		b.Run(fmt.Sprintf("%s/%d-a-second", c.name, c.perSecond), func(b *testing.B) {
			s, e := newBenchStream(c.perSecond), mustNew(b, c.cfg)
			for range 100 * c.perSecond { // so that windows have fired
				e.Apply(*s.take(b))
			}
			results := 0
			b.ReportAllocs()
			for b.Loop() {
				ev := s.take(b)
				if c.cfg.Partitions > 1 {
					ev.Partition = s.next % c.cfg.Partitions
				}
				out := e.Apply(*ev)
				results += len(out.Results)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(results)/float64(b.N), "results/event")
			b.ReportMetric(float64(e.State().IDs), "ids")
		})
	}
}

// BenchmarkBareMap is what the counting alone costs, without duplicates, watermark, lateness or windows that end: the yardstick.
func BenchmarkBareMap(b *testing.B) {
	s := newBenchStream(1000)
	type cell struct {
		window int64
		key    string
	}
	for name, count := range map[string]func(m map[cell]int64, ev *window.Event){
		"key":            func(m map[cell]int64, ev *window.Event) { m[cell{key: ev.Key}]++ },
		"key-and-window": func(m map[cell]int64, ev *window.Event) { m[cell{ev.Time / 60_000, ev.Key}]++ },
	} {
		b.Run(name, func(b *testing.B) {
			counts := make(map[cell]int64)
			for b.Loop() {
				ev := s.take(b)
				count(counts, ev)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkSnapshot is the state of a minute at 1,000 events a second by 1,000 keys.
func BenchmarkSnapshot(b *testing.B) {
	s, e := newBenchStream(1000), mustNew(b, window.Config{Windows: window.Tumbling(time.Minute, 0), Bound: time.Minute})
	for range 120_000 {
		e.Apply(*s.take(b))
	}
	b.SetBytes(int64(len(e.Snapshot())))
	for b.Loop() {
		e.Snapshot()
	}
}

// BenchmarkState is what is in memory: heap for each key in each open window, without and with the ids of its events, and for each live session. The events of
// a window are spread over its keys.
func BenchmarkState(b *testing.B) {
	for _, c := range []struct {
		name         string
		cfg          window.Config
		keys, events int // events of a key
	}{
		{"tumbling-count/1-event-a-key", window.Config{Windows: window.Tumbling(time.Minute, 0)}, 100_000, 1},
		{"tumbling-count/100-events-a-key", window.Config{Windows: window.Tumbling(time.Minute, 0)}, 10_000, 100},
		{"tumbling-sum/1-event-a-key", window.Config{Windows: window.Tumbling(time.Minute, 0), Aggregate: window.Sum()}, 100_000, 1},
		{"session-count/1-event-a-key", window.Config{Windows: window.Session(time.Minute)}, 100_000, 1},
		{"top-10/100-items-a-key", window.Config{Windows: window.Tumbling(time.Minute, 0), Aggregate: window.Top(10)}, 1000, 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			var bytes, snapshot float64
			for b.Loop() {
				before := heap()
				e := mustNew(b, c.cfg)
				for k := range c.keys {
					for i := range c.events {
						e.Apply(window.Event{ID: fmt.Sprintf("%d-%d", k, i), Key: fmt.Sprintf("customer-%06d", k), Item: fmt.Sprintf("sku-%03d", i), Value: 1})
					}
				}
				bytes = float64(heap()-before) / float64(c.keys)
				snapshot = float64(len(e.Snapshot())) / float64(c.keys)
			}
			b.ReportMetric(bytes, "heap-B/cell")
			b.ReportMetric(snapshot, "snapshot-B/cell")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
