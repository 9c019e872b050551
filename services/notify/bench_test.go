//go:build unix

package notify

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// BenchmarkNotices measures notices a second of a backlog: with an address (a mail over SMTP to a sink in the same process), without one, and of
// events that are known already. The broker, the sink and the service share the process and its processors.
func BenchmarkNotices(b *testing.B) {
	for _, tc := range []struct {
		name    string
		address bool
		known   bool
		cfg     Config
	}{
		{"with an address", true, false, Config{}},
		{"without an address", false, false, Config{}},
		{"known", false, true, Config{}},
		{"with an address, 16 connections", true, false, Config{SMTPConnections: 16}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			s := newSite(b)
			if tc.address {
				s.address("c1", "ann@customers.example")
			}
			fill(b, s, b.N)
			if tc.known {
				in := s.start(tc.cfg)
				s.awaitNotices(uint64(b.N)) //nolint:gosec // positive
				s.awaitDone()
				in.stop()
				s.rewind()
			}
			begin, cpu := time.Now(), cpuSeconds()
			b.ResetTimer()
			in := s.start(tc.cfg)
			eventstest.Eventually(b, 10*time.Minute, "all events are told", func() bool {
				return in.count("sent")+in.count("skipped")+in.count("known") >= int64(b.N)
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "notices/s")
			b.ReportMetric((cpuSeconds()-cpu)/float64(b.N)*1e6, "cpu-µs/notice")
			in.stop()
		})
	}
}

// fill stores n orders with one event each.
func fill(b *testing.B, s *site, n int) {
	b.Helper()
	encoder := bus.NewEncoder(s.registry, bus.Telemetry{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				id := fmt.Sprintf("order-%d", i)
				ev, err := events.New("/tidemark/order", events.TypeOrderPlaced, id, time.Now(), placed(id, "c1"))
				ev.Version = 1
				if err == nil {
					msg, encodeErr := encoder.Encode(b.Context(), s.subjects.Order(id), ev)
					if err = encodeErr; err == nil {
						_, err = s.js.PublishMsg(b.Context(), msg)
					}
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// cpuSeconds is what this process has used, of all its processors, the system's part included.
func cpuSeconds() float64 {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use) // it can't fail with these arguments
	return float64(use.Utime.Nano()+use.Stime.Nano()) / 1e9
}
