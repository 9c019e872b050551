package store_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// BenchmarkAppend sets an append with all that belongs to it against the bare publish that it is made of: same body, same lock, no headers
// but the id and the lock. The two take turns, so that what else the machine does falls on both; "ratio" is the bare time over the store's.
func BenchmarkAppend(b *testing.B) {
	for name, server := range clusters {
		b.Run(name, func(b *testing.B) {
			set := start(b, server)
			js := set.JetStream()
			nc := js.Conn()
			s := set.openOn(b, nc)
			var bare, whole time.Duration
			ctx := context.Background()
			for i := 0; b.Loop(); i++ {
				ev := amount(int64(i))
				began := time.Now()
				msg := &nats.Msg{Subject: "ledger.b" + strconv.Itoa(i), Data: ev.Data, Header: nats.Header{nats.MsgIdHdr: {ev.ID + "b"}, expectedOfSubject: {"0"}}}
				if _, err := js.PublishMsg(ctx, msg); err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if _, err := s.Append(ctx, "ledger.w"+strconv.Itoa(i), 0, ev); err != nil {
					b.Fatal(err)
				}
				bare, whole = bare+middle.Sub(began), whole+time.Since(middle)
			}
			b.ReportMetric(bare.Seconds()/whole.Seconds(), "ratio")
			b.ReportMetric(float64(bare.Microseconds())/float64(b.N), "bare-µs/op")
			b.ReportMetric(float64(whole.Microseconds())/float64(b.N), "append-µs/op")
		})
	}
}

// BenchmarkAppendParallel is the same with 64 callers at once, where the client's own work counts, one way after the other.
func BenchmarkAppendParallel(b *testing.B) {
	for _, way := range []string{"bare", "append"} {
		b.Run(way, func(b *testing.B) {
			set := start(b, eventstest.Start)
			js := set.JetStream()
			s := set.openOn(b, js.Conn())
			data := amount(1).Data
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx := context.Background()
				for pb.Next() {
					id := events.NewID()
					var err error
					if way == "bare" {
						_, err = js.PublishMsg(ctx, &nats.Msg{Subject: "ledger." + id, Data: data, Header: nats.Header{nats.MsgIdHdr: {id}, expectedOfSubject: {"0"}}})
					} else {
						_, err = s.Append(ctx, "ledger."+id, 0, amountID(id, 1))
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkAppendBatch(b *testing.B) {
	for name, server := range clusters {
		for _, size := range []int{2, 20, 200} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				s := start(b, server).open(b)
				evs := make([]events.Event, size)
				for last := uint64(0); b.Loop(); {
					for i := range evs {
						evs[i] = amount(1)
					}
					var err error
					if last, err = s.Append(context.Background(), "ledger.a", last, evs...); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkLoad compares the ways to read an aggregate of a few events among 50,000 others.
func BenchmarkLoad(b *testing.B) {
	set := start(b, eventstest.Start)
	js := set.JetStream()
	s := set.openOn(b, js.Conn())
	const subjects = 10_000
	fill(b, s, subjects)
	stream, err := js.Stream(context.Background(), ledger)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{0, 1, 4} {
		subject := func(i int) string {
			if n == 0 {
				return "ledger.none"
			}
			return fmt.Sprintf("ledger.%d-%d", n, i%(subjects/5))
		}
		b.Run(fmt.Sprintf("load/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if got, err := s.Load(context.Background(), subject(i)); err != nil || len(got) != n {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(fmt.Sprintf("one-by-one/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				next := uint64(1)
				for {
					msg, err := stream.GetMsg(context.Background(), next, jetstream.WithGetMsgSubject(subject(i)))
					if err != nil {
						break
					}
					next = msg.Sequence + 1
				}
			}
		})
	}
	b.Run("last", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Last(context.Background(), fmt.Sprintf("ledger.4-%d", i%(subjects/5))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Get(context.Background(), uint64(i)%subjects+1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// fill stores one event in a fifth of the subjects, and four in the others, in rounds, so that an aggregate's events lie apart as they do in life.
func fill(b *testing.B, s *store.Store, subjects int) {
	b.Helper()
	last := uint64(0)
	var writes []store.Write
	flush := func() {
		var err error
		if last, err = s.AppendAt(context.Background(), last, writes...); err != nil {
			b.Fatal(err)
		}
		writes = writes[:0]
	}
	for _, size := range []int{1, 4, 4, 4, 4} {
		for i := range subjects / 5 {
			writes = append(writes, store.Write{Subject: fmt.Sprintf("ledger.%d-%d", size, i), Event: amount(1)})
			if len(writes) == 500 {
				flush()
			}
		}
	}
}

func BenchmarkRead(b *testing.B) {
	set := start(b, eventstest.Start)
	s := set.open(b)
	fill(b, s, 20_000)
	b.ResetTimer()
	read := uint64(0)
	for b.Loop() {
		last, err := s.Read(context.Background(), 1, func(store.Recorded) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		read += last
	}
	b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "events/s")
}
