package store_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

const bucket = "CACHE"

func openSnapshots(t *testing.T) (*store.Snapshots, jetstream.JetStream) {
	t.Helper()
	server := eventstest.Start(t)
	return newSnapshots(t, server), server.JetStream()
}

func newSnapshots(t *testing.T, server *eventstest.Server) *store.Snapshots {
	t.Helper()
	server.Apply(events.Topology{Buckets: []events.Bucket{{Name: bucket, Objects: true}}})
	s, err := store.NewSnapshots(testContext(t), server.JetStream(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	s, _ := openSnapshots(t)
	ctx := testContext(t)
	if _, err := s.Get(ctx, "orders"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before the first one: %v", err)
	}
	random := rand.NewChaCha8([32]byte{})
	for _, size := range []int{1, 0, 5 << 20, 100, 128 << 10, 128<<10 + 1} {
		data := make([]byte, size)
		_, _ = random.Read(data)
		for _, name := range []string{"orders", "a name/with ünusual > characters"} {
			if err := s.Put(ctx, name, data); err != nil {
				t.Fatalf("put %d bytes: %v", size, err)
			}
			if got, err := s.Get(ctx, name); err != nil || !bytes.Equal(got, data) {
				t.Errorf("put %d bytes, got %d: %v", size, len(got), err)
			}
		}
	}
}

func TestNewSnapshotsNeedsItsBucket(t *testing.T) {
	t.Parallel()
	if _, err := store.NewSnapshots(testContext(t), eventstest.Start(t).JetStream(), "NONE"); err == nil {
		t.Error("a bucket that is not there opens")
	}
}

// A snapshot with a hole is worth nothing, and must be noticed at once: a service that starts is waiting.
func TestDamagedSnapshotIsNotThere(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(t *testing.T, stream jetstream.Stream, chunks []uint64){
		"a chunk is gone": func(t *testing.T, stream jetstream.Stream, chunks []uint64) {
			t.Helper()
			if err := stream.DeleteMsg(testContext(t), chunks[1]); err != nil {
				t.Fatal(err)
			}
		},
		"the last chunk is gone": func(t *testing.T, stream jetstream.Stream, chunks []uint64) {
			t.Helper()
			if err := stream.DeleteMsg(testContext(t), chunks[len(chunks)-1]); err != nil {
				t.Fatal(err)
			}
		},
		"all chunks are gone": func(t *testing.T, stream jetstream.Stream, chunks []uint64) {
			t.Helper()
			for _, sequence := range chunks {
				if err := stream.DeleteMsg(testContext(t), sequence); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, js := openSnapshots(t)
			ctx := testContext(t)
			if err := s.Put(ctx, "orders", make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			stream, err := js.Stream(ctx, "OBJ_"+bucket)
			if err != nil {
				t.Fatal(err)
			}
			var chunks []uint64
			for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
				if msg, err := stream.GetMsg(ctx, sequence); err == nil && len(msg.Data) > 64<<10 {
					chunks = append(chunks, sequence)
				}
			}
			damage(t, stream, chunks)
			if got, err := s.Get(ctx, "orders"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if err := s.Put(ctx, "orders", []byte("new")); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Get(ctx, "orders"); err != nil || string(got) != "new" {
				t.Errorf("after it was put again: %q, %v", got, err)
			}
		})
	}
}

// A blob may be replaced or removed while it is read. The reader then gets the new one whole, or hears at once that there is none; it never waits for pieces that are gone.
func TestSnapshotThatIsReplacedWhileItIsRead(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSnapshots(t, server(t))
			ctx, stop := context.WithCancel(testContext(t))
			var writer sync.WaitGroup
			writer.Go(func() {
				for n := byte(0); ctx.Err() == nil; n++ {
					err := s.Put(ctx, "orders", bytes.Repeat([]byte{n}, 300<<10))
					if err == nil && n%2 == 1 {
						err = s.Delete(ctx, "orders")
					}
					if err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
				}
			})
			for read := 0; read < 100 && !t.Failed(); {
				limited, cancel := context.WithTimeout(ctx, waitLimit)
				data, err := s.Get(limited, "orders")
				cancel()
				switch {
				case errors.Is(err, store.ErrNotFound):
				case err != nil:
					t.Error(err)
				case len(data) != 300<<10 || !bytes.Equal(data, bytes.Repeat(data[:1], len(data))):
					t.Errorf("%d bytes that are not one blob's", len(data))
				default:
					read++
				}
			}
			stop()
			writer.Wait()
		})
	}
}
