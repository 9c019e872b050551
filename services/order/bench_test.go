package order

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// fill is a table of n confirmed orders of n/10 customers.
func fill(b *testing.B, n int) *table {
	b.Helper()
	t := newTable()
	for i := range n {
		t.insert(row{
			id: mustKey(events.DeriveID("o", fmt.Sprint(i))), placedSeq: uint64(2*i + 1), total: int64(i), placedAt: at.UnixMicro(), updatedAt: at.UnixMicro(), //nolint:gosec // small
			customer: t.texts.number(fmt.Sprint("customer ", i%(n/10+1))), currency: t.texts.number("GBP"), version: 2, status: Confirmed,
		})
	}
	t.positions = positions{uint64(2 * n), uint64(2 * n)} //nolint:gosec // small
	return t
}

func mustKey(id string) key {
	k, foreign := keyOf(id)
	if foreign {
		panic(id)
	}
	return k
}

// BenchmarkSnapshotLoad is what a start costs without the broker: decoding a snapshot of a million orders.
func BenchmarkSnapshotLoad(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			full := fill(b, n)
			runtime.GC()
			runtime.ReadMemStats(&after)
			bytes := 0
			f := full.snapshot(manifest{})
			for _, blob := range f.blobs {
				bytes += len(blob)
			}
			for b.Loop() {
				thaw(b, f)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/order")
			b.ReportMetric(float64(bytes)/float64(n), "snapshot-B/order")
			runtime.KeepAlive(full)
		})
	}
}

func BenchmarkListingOfACustomer(b *testing.B) {
	t := fill(b, 1_000_000)
	for b.Loop() {
		if got, _ := t.list(query{customer: "customer 4711", limit: 100}); len(got) == 0 {
			b.Fatal("nothing")
		}
	}
}

func BenchmarkListingOfARareStatus(b *testing.B) {
	t := fill(b, 1_000_000)
	for b.Loop() {
		t.list(query{status: Reserved, limit: 100})
	}
}

func BenchmarkDecodeAndValidate(b *testing.B) {
	body := `{"customer":"17850","email":"17850@customers.example","currency":"GBP","placed_at":"2010-12-01T08:26:00Z","lines":[`
	for i := range 20 {
		if i > 0 {
			body += ","
		}
		body += `{"sku":"85123A","quantity":6,"unit_price":"2.55"}`
	}
	body += `]}`
	b.ReportAllocs()
	for b.Loop() {
		r, f, err := decodeRequest([]byte(body))
		if err != nil {
			b.Fatal(err)
		}
		r.validate(time.Now(), &f)
		if _, err := r.digest(); err != nil || len(f.list) > 0 {
			b.Fatal(f.list, err)
		}
	}
}
