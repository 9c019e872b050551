package nexmark_test

import (
	"testing"

	"github.com/tidemark/tidemark/bench/nexmark"
)

// The size that every run of the tests has. It is fifty seconds of event time.
const small = 100_000

// What the engine says event by event and in batches of several sizes is what the oracle says.
func TestEngineEqualsBatch(t *testing.T) {
	t.Parallel()
	c := nexmark.Default(small)
	log := c.Log()
	stored := c.Stored(log)
	for _, q := range nexmark.Queries() {
		t.Run(q.Name, func(t *testing.T) {
			t.Parallel()
			want := c.Batch(&q, log, stored)
			for _, batch := range []int{0, 1000, len(log)} {
				got, err := c.Stream(&q, log, stored, batch)
				if err != nil {
					t.Fatal(err)
				}
				if got.Digest() != want.Digest() {
					t.Errorf("in batches of %d:\n got %+v\nwant %+v", batch, got.Digest(), want.Digest())
					diff(t, got.Results, want.Results)
					diff(t, got.Late, want.Late)
					diff(t, got.Duplicates, want.Duplicates)
				}
			}
		})
	}
}

func diff(t *testing.T, got, want []string) {
	t.Helper()
	n := make(map[string]int)
	for _, l := range got {
		n[l]++
	}
	for _, l := range want {
		n[l]--
	}
	shown := 0
	for l, k := range n {
		if k != 0 && shown < 5 {
			shown++
			t.Logf("%+d %s", k, l)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	c := nexmark.Default(small)
	log := c.Log()
	stored := c.Stored(log)
	for _, q := range nexmark.Queries() {
		b.Run(q.Name, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Stream(&q, log, stored, 0); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(log)*b.N)/b.Elapsed().Seconds(), "events/s")
		})
		b.Run(q.Name+"-batch", func(b *testing.B) {
			for b.Loop() {
				c.Batch(&q, log, stored)
			}
			b.ReportMetric(float64(len(log)*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
	b.Run("log", func(b *testing.B) {
		for b.Loop() {
			c.Log()
		}
	})
}

// The stored digest of the small workload is what the oracle computes, and what the engine says. Those of the large ones are compared by the bench.
func TestStoredDigests(t *testing.T) {
	t.Parallel()
	all, err := nexmark.StoredDigests()
	if err != nil {
		t.Fatal(err)
	}
	c := nexmark.Default(small)
	got := c.ComputeDigests()
	for _, q := range nexmark.Queries() {
		for _, size := range []int{small, 1_000_000, 2_000_000} {
			if d := all[size][q.Name]; d.Results.N == 0 || d.Duplicates.N == 0 || d.Late.N == 0 && q.Name != "q12" {
				t.Errorf("%s of %d events: %+v: a digest of nothing shows nothing", q.Name, size, d)
			}
		}
		if want := all[small][q.Name]; got[q.Name] != want {
			t.Errorf("%s:\n got %+v\nwant %+v; see go run ./bench nexmark digests", q.Name, got[q.Name], want)
		}
	}
}
