package bus_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// The benchmarks run beside a plain nats.go program that does the same without headers, order or guarantees. Server and client share the
// process, so the CPU time reported is that of both. Rates swing on a busy machine; look at cpu-µs/op first.

// cpu is the time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs fn, which handles b.N events, between two looks at the clocks.
func measure(b *testing.B, fn func()) {
	b.Helper()
	b.ResetTimer()
	before := cpu(b)
	fn()
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// stored makes a server with one partition that holds b.N events over the keys, and returns its JetStream and group.
func stored(b *testing.B, keys int, plain bool) (jetstream.JetStream, events.Group) {
	b.Helper()
	s := eventstest.Start(b)
	top := s.Apply(topology(1))
	js := s.JetStream()
	subjects := top.Subjects()
	futures := make([]jetstream.PubAckFuture, 0, b.N)
	versions := make(map[string]uint64, keys)
	for i := range b.N {
		key := "order-" + strconv.Itoa(i%keys)
		versions[key]++
		m := &nats.Msg{Subject: subjects.Order(key)}
		ev := benchEvent(b, key)
		ev.Version = versions[key]
		header, data, err := events.Encode(&ev)
		if err != nil {
			b.Fatal(err)
		}
		if m.Data = data; !plain {
			m.Header = nats.Header(header)
		}
		f, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute))
		if err != nil {
			b.Fatal(err)
		}
		futures = append(futures, f)
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			b.Fatal(err)
		}
	}
	return js, top.Groups[0]
}

func benchEvent(tb testing.TB, key string) events.Event {
	tb.Helper()
	ev, err := events.New("/bench", events.TypeOrderCancelled, key, time.Now(), events.OrderCancelled{OrderID: key, CustomerID: "c"})
	if err != nil {
		tb.Fatal(err)
	}
	ev.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	return ev
}

// BenchmarkCheck is what a group pays for each event to be sure of its payload, in the lane that handles it.
func BenchmarkCheck(b *testing.B) {
	r := registry(b)
	for name, data := range map[string]string{"fits": goodOrder, "breaks": negativeOrder} {
		ev := events.Event{Type: events.TypeOrderPlaced, Data: []byte(data)}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Validate(&ev); (err == nil) != (name == "fits") {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	for _, headers := range []bool{false, true} {
		name := "plain nats.go"
		if headers {
			name += ", with headers"
		}
		b.Run(name, func(b *testing.B) {
			js, group := stored(b, 1000, !headers)
			c, err := js.Consumer(context.Background(), group.Stream, group.Consumer(0))
			if err != nil {
				b.Fatal(err)
			}
			measure(b, func() {
				var n atomic.Int64
				done := make(chan struct{})
				cc, err := c.Consume(func(m jetstream.Msg) {
					_ = m.Ack()
					if n.Add(1) == int64(b.N) {
						close(done)
					}
				}, jetstream.PullPriorityGroup("owner"), jetstream.PullExpiry(time.Second))
				if err != nil {
					b.Fatal(err)
				}
				<-done
				cc.Stop()
			})
		})
	}
	for name, keys := range map[string]int{"group, 1000 keys": 1000, "group, 1 key": 1} {
		b.Run(name, func(b *testing.B) {
			js, group := stored(b, keys, false)
			var n atomic.Int64
			done := make(chan struct{})
			g, err := bus.NewGroup(bus.GroupConfig{Group: group, Handler: func(context.Context, bus.Delivery) error {
				if n.Add(1) == int64(b.N) {
					close(done)
				}
				return nil
			}}, bus.Deps{JS: js})
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			measure(b, func() {
				ended := make(chan error, 1)
				go func() { ended <- g.Run(ctx) }()
				<-done
				stop()
				if err := <-ended; err != nil {
					b.Fatal(err)
				}
			})
		})
	}
	b.Run("log", func(b *testing.B) {
		js, _ := stored(b, 1000, false)
		group := topology(1).Groups[1]
		var position atomic.Uint64
		done := make(chan struct{})
		l, err := bus.NewLog(bus.LogConfig{
			Group:    group,
			Position: func(context.Context) (uint64, error) { return position.Load(), nil },
			Handler: func(_ context.Context, ds []bus.Delivery) error {
				if position.Store(ds[len(ds)-1].Sequence); position.Load() == uint64(b.N) {
					close(done)
				}
				return nil
			},
		}, bus.Deps{JS: js})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		measure(b, func() {
			ended := make(chan error, 1)
			go func() { ended <- l.Run(ctx) }()
			<-done
			stop()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkPublish publishes one event after the other, each acknowledged before the next.
func BenchmarkPublish(b *testing.B) {
	s := eventstest.Start(b)
	top := s.Apply(topology(1))
	js, subjects := s.JetStream(), top.Subjects()
	b.Run("plain nats.go", func(b *testing.B) {
		data := benchEvent(b, "k").Data
		subject := subjects.Order("k")
		measure(b, func() {
			for range b.N {
				if _, err := js.Publish(context.Background(), subject, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
	b.Run("publisher", func(b *testing.B) {
		p := bus.NewPublisher(bus.Deps{JS: js, Encoder: bus.NewEncoder(registry(b), bus.Telemetry{})})
		ev := benchEvent(b, "k")
		subject := subjects.Order("k")
		measure(b, func() {
			for range b.N {
				ev.ID = events.NewID()
				if _, err := p.Publish(context.Background(), subject, ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}
