//go:build long

package bus_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// phase is a part of the test in which one thing happens.
type phase struct {
	name  string
	began time.Time
}

// TestRebalance is what a group promises, with real processes: three members, eight partitions, steady load. One is killed, one is added, one hangs for 15 s and
// wakes up, one is asked to stop. Every event has its effect once and in order, and the partitions are shared evenly again each time. The gaps are printed.
func TestRebalance(t *testing.T) {
	t.Parallel()
	f := newFixture(t, effectsPartitions, single, func(top *events.Topology) { *top = effectsTopology() })
	stream, err := f.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: effectsStream, Subjects: []string{"effects.*"}, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	var fenced atomic.Int64
	if _, err := f.js.Conn().Subscribe(fencedSubject, func(*nats.Msg) { fenced.Add(1) }); err != nil {
		t.Fatal(err)
	}
	var phases []phase
	begin := func(name string) { phases = append(phases, phase{name, time.Now()}) }
	run := func(d time.Duration) {
		until := time.Now().Add(d)
		eventstest.Eventually(t, d+generous, "time has passed", func() bool { return time.Now().After(until) })
	}
	even := func(members ...*effectsProcess) {
		began := time.Now()
		var names []string
		for _, m := range members {
			names = append(names, m.name)
		}
		f.awaitEvenNames(names...)
		t.Logf("%s: %d members share the partitions evenly after %s", phases[len(phases)-1].name, len(members), time.Since(began).Round(10*time.Millisecond))
		run(2 * time.Second)
	}

	begin("three members start")
	stop := f.keepBusy(200)
	a, b, c := f.effectsChild(), f.effectsChild(), f.effectsChild()
	even(a, b, c)
	begin("steady")
	run(3 * time.Second)
	begin("one is killed")
	a.signal(f, syscall.SIGKILL)
	even(b, c)
	begin("one is added")
	d := f.effectsChild()
	even(b, c, d)
	begin("one hangs for 15 s")
	hung := time.Now()
	b.signal(f, syscall.SIGSTOP)
	even(c, d)
	run(15*time.Second - time.Since(hung))
	begin("it wakes up")
	b.signal(f, syscall.SIGCONT)
	even(b, c, d)
	begin("one is asked to stop")
	c.signal(f, syscall.SIGTERM)
	even(b, d)
	begin("the end")
	stop()
	f.settled(f.group)

	effects := f.effects(stream)
	f.onceAndInOrder(effects)
	t.Logf("%d events, %d late writes refused by the lock, %d dead letters", len(effects), fenced.Load(), len(f.lettersStored()))
	t.Log(standstills(phases, effects))
	if n := len(f.lettersStored()); n > 0 {
		t.Errorf("%d dead letters", n)
	}
}

// storedEffect is an effect and when it was stored.
type storedEffect struct {
	effect
	key string
	at  time.Time
}

func (f *fixture) effects(stream jetstream.Stream) []storedEffect {
	f.Helper()
	info, err := stream.Info(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(f.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		f.Fatal(err)
	}
	out := make([]storedEffect, 0, info.State.Msgs)
	for uint64(len(out)) < info.State.Msgs {
		batch, err := consumer.Fetch(min(500, int(info.State.Msgs)-len(out)))
		if err != nil {
			f.Fatal(err)
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				f.Fatal(err)
			}
			e, err := parseEffect(m.Data())
			if err != nil {
				f.Fatal(err)
			}
			out = append(out, storedEffect{e, strings.TrimPrefix(m.Subject(), "effects."), meta.Timestamp})
		}
		if batch.Error() != nil {
			f.Fatal(batch.Error())
		}
	}
	return out
}

func (f *fixture) onceAndInOrder(effects []storedEffect) {
	f.Helper()
	last := make(map[string]uint64)
	bad := 0
	for _, e := range effects {
		if e.version != last[e.key]+1 {
			if bad++; bad <= 3 {
				f.Errorf("%s: version %d after %d", e.key, e.version, last[e.key])
			}
		}
		last[e.key] = e.version
	}
	if !maps.Equal(last, f.sent) {
		f.Errorf("of some keys not all events had their effect; %d keys were sent, %d have effects", len(f.sent), len(last))
	}
}

// standstills is a table: by the phase in which it ended, how long the median and the slowest partition had no effect.
func standstills(phases []phase, effects []storedEffect) string {
	var out strings.Builder
	fmt.Fprintf(&out, "longest time without an effect, by partition\n%-22s %8s %8s\n", "", "median", "worst")
	for i, ph := range phases[:len(phases)-1] {
		end := phases[i+1].began
		previous := make(map[int]time.Time)
		longest := make(map[int]time.Duration)
		for _, e := range effects {
			if before, ok := previous[e.partition]; ok && e.at.After(ph.began) && e.at.Before(end) {
				longest[e.partition] = max(longest[e.partition], e.at.Sub(before))
			}
			previous[e.partition] = e.at
		}
		gaps := slices.Sorted(maps.Values(longest))
		if len(gaps) == 0 {
			continue
		}
		ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + " ms" }
		fmt.Fprintf(&out, "%-22s %8s %8s\n", ph.name, ms(gaps[len(gaps)/2]), ms(gaps[len(gaps)-1]))
	}
	return out.String()
}
