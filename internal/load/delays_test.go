package load

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// The delays are the mixture that their description promises, and the same for the same seed.
func TestDelays(t *testing.T) {
	t.Parallel()
	const n, few = 200_000, 1000
	d := delays{seed: 1, stretch: 1}
	all := make([]float64, n)
	other := 0
	for i := range all {
		all[i] = d.of(i).Seconds()
		if i >= few {
			continue
		}
		if again := (delays{seed: 1, stretch: 3600}).of(i).Seconds(); math.Abs(again-3600*all[i]) > 1e-5 {
			t.Fatalf("delay %d: %g s, stretched %g s", i, all[i], again)
		}
		if (delays{seed: 2, stretch: 1}).of(i).Seconds() != all[i] {
			other++
		}
	}
	if other < few-10 {
		t.Errorf("another seed changes %d of %d delays", other, few)
	}
	slices.Sort(all)
	// What the distribution functions say, within five standard errors.
	for _, c := range []struct{ over, share float64 }{
		{0.2, 0.95*math.Exp(-1) + 0.049*lognormalAbove(0.2) + 0.001},
		{10, 0.049*lognormalAbove(10) + 0.001},
		{60, 0.049*lognormalAbove(60) + 0.001},
		{300, 0.049*lognormalAbove(300) + 0.001*math.Pow(300./60, -1.3)},
		{3600, 0.001 * math.Pow(3600./60, -1.3)},
	} {
		above := n - sortedBelow(all, c.over)
		sigma := math.Sqrt(n * c.share)
		if got := float64(above); math.Abs(got-n*c.share) > 5*sigma {
			t.Errorf("%d of %d delays are above %g s, want about %.0f", above, n, c.over, n*c.share)
		}
	}
	if all[0] < 0 || all[n-1] > longestWait {
		t.Errorf("delays from %g to %g s", all[0], all[n-1])
	}
	if (delays{seed: 1}).of(5) != 0 {
		t.Error("there is a delay where none was asked for")
	}
}

func lognormalAbove(x float64) float64 {
	return math.Erfc(math.Log(x/slowMedian)/(slowSigma*math.Sqrt2)) / 2
}

func sortedBelow(sorted []float64, x float64) int {
	n, _ := slices.BinarySearch(sorted, x)
	return n
}

// spread is a file of n invoices, one a minute, of two lines; every third is interrupted by the one behind it.
func spread(n int) (content string, at []time.Time) {
	var b strings.Builder
	b.WriteString(header)
	line := func(i int) {
		fmt.Fprintf(&b, "%06d,A,x,1,%s,1,5.0,UK\n", i, at[i].Format(dateLayout))
	}
	for i := range n {
		at = append(at, time.Date(2010, 12, 1, 8, i, 0, 0, time.UTC))
	}
	for i := range n {
		line(i)
		if i%3 == 1 {
			line(i - 1)
		}
		if i%3 != 0 || i == n-1 {
			line(i)
		}
	}
	return b.String(), at
}

// Late invoices are sent whole, with the file's times, in the order of time and stretched delay.
func TestLateFile(t *testing.T) {
	t.Parallel()
	const n = 500
	content, at := spread(n)
	for _, limit := range []int{0, 100} {
		shop := newShop()
		mustRun(t, Config{API: shop.start(t), CSV: write(t, content), Late: true, Seed: 1, Limit: limit})
		sent := n
		if limit > 0 {
			sent = limit
		}
		want := make([]int, sent)
		due := make([]time.Time, sent)
		for i := range want {
			want[i], due[i] = i, at[i].Add((delays{seed: 1, stretch: 3600}).of(i))
		}
		slices.SortFunc(want, func(a, b int) int { return due[a].Compare(due[b]) })
		if len(shop.sequence) != sent {
			t.Fatalf("%d were sent, want %d", len(shop.sequence), sent)
		}
		early := 0
		for turn, i := range want {
			key := fmt.Sprintf("%06d", i)
			if shop.sequence[turn] != key {
				t.Fatalf("turn %d: %s was sent, want %s", turn, shop.sequence[turn], key)
			}
			if o := shop.sent[key]; !o.PlacedAt.Equal(at[i]) || len(o.Lines) != 2 {
				t.Fatalf("%s: %+v, want two lines at %s", key, o, at[i])
			}
			if turn > 0 && want[turn-1] > i {
				early++
			}
		}
		if early < sent/10 {
			t.Errorf("%d of %d come after one that is younger: nothing is late", early, sent)
		}
	}
}

// With a speed the delay is real time: stretch by speed.
func TestLateFileWithSpeed(t *testing.T) {
	t.Parallel()
	const n, speed, stretch = 40, 3600, 120
	content, at := spread(n)
	shop := newShop()
	start := time.Now().UTC().Truncate(time.Second)
	mustRun(t, Config{API: shop.start(t), CSV: write(t, content), Speed: fmt.Sprint(speed), Start: start, Late: true, LateStretch: stretch})
	for i := range n {
		key := fmt.Sprintf("%06d@%s", i, start.Format(time.RFC3339Nano))
		placed := start.Add(at[i].Sub(at[0]) / speed)
		due := placed.Add((delays{stretch: stretch}).of(i) / speed)
		if o := shop.sent[key]; !o.PlacedAt.Equal(placed) {
			t.Errorf("%s: placed at %s, want %s", key, o.PlacedAt, placed)
		}
		if stored := shop.stored[key]; stored.Before(due.Add(-time.Microsecond)) {
			t.Errorf("%s: came at %s, before it was due at %s", key, stored, due)
		}
	}
}

// Made-up events come at their rate, and are dated earlier by their delay; and some clicks are stored twice, under one id.
func TestLateAndTwice(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	clicks, _ := topology.Stream(events.StreamClicks)
	server := eventstest.Start(t)
	server.Apply(events.Topology{Partitions: topology.Partitions, Streams: []events.Stream{clicks}})
	shop := newShop()
	shop.nats = server.URL()
	cfg := Config{
		API: shop.start(t), Rate: 4000, For: 500 * time.Millisecond, Seed: 7, Start: time.Now().Add(-time.Hour), Late: true, LateStretch: 60, Twice: 0.1,
	}
	for range 2 { // the second time nothing is new
		got, _ := mustRun(t, cfg)
		if got.Clicks != 1800 || got.ClicksTwice != 180 {
			t.Errorf("got %+v, want 1,800 clicks, 180 of them twice", got)
		}
	}
	m := newMaker(cfg.withDefaults())
	byID := map[string]events.Event{}
	for _, c := range shop.clicks {
		byID[c.ID] = c
	}
	backwards := 0
	for n := range m.number {
		if m.happened(n).After(m.at(n)) || !m.happened(n).Equal(m.at(n).Add(-m.delays.of(n))) {
			t.Fatalf("event %d is dated %s and sent %s", n, m.happened(n), m.at(n))
		}
		if n > 0 && m.happened(n).Before(m.happened(n-1)) {
			backwards++
		}
		if m.isOrder(n) {
			continue
		}
		if c := byID[m.key("click", n)]; !c.Time.Equal(m.happened(n)) {
			t.Errorf("click %d: dated %s, want %s", n, c.Time, m.happened(n))
		}
	}
	if backwards < m.number/4 {
		t.Errorf("%d of %d are out of order", backwards, m.number)
	}
	copies(t, server, byID)
}

// copies compares what is stored past the API with what went through it.
func copies(t *testing.T, server *eventstest.Server, byID map[string]events.Event) {
	t.Helper()
	for _, m := range storedClicks(t, server, 180) {
		stored, err := events.Decode(events.Header(m.Header), m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if first := byID[stored.ID]; stored.Source != first.Source || !stored.Time.Equal(first.Time) || string(stored.Data) != string(first.Data) {
			t.Errorf("%+v is no copy of %+v", stored, first)
		}
	}
}

// A load ends by saying what came late and what to do about it.
func TestSaysWhatLiesBehind(t *testing.T) {
	t.Parallel()
	at := func(text string) *time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	live := at("2026-11-26T14:00:00Z")
	before := client.Projection{Queries: []client.QueryCounts{{Query: "a", Read: 7, Late: 5, TooLate: 5, Watermark: live}, {Query: "b"}, {Query: "c", Watermark: live}}}
	busy := client.Projection{Queries: []client.QueryCounts{{Query: "a", Read: 8, Late: 6, TooLate: 6, Watermark: live}, {Query: "b"}, {Query: "c", Watermark: live}}}
	after := client.Projection{Queries: []client.QueryCounts{
		{Query: "a", Read: 9, Late: 8, TooLate: 6, Partially: 1, Watermark: live}, {Query: "b", Read: 2, Counted: 2, Watermark: at("2010-12-01T08:25:00Z")}, {Query: "c", Watermark: live},
	}}
	for name, c := range map[string]struct {
		looks []client.Projection
		want  string
	}{
		"late":      {[]client.Projection{before, busy, after}, "a: 2 events"},
		"none late": {[]client.Projection{before, {Queries: before.Queries}}, ""},
		"not there": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shop := newShop()
			shop.windows = c.looks
			_, told := mustRun(t, Config{API: shop.start(t), CSV: write(t, sample)})
			if c.want == "" {
				if strings.Contains(told, "late") {
					t.Errorf("told %q", told)
				}
				return
			}
			for _, want := range []string{c.want, "from 2010-12-01T08:26:00Z to 2011-07-01T09:00:00Z", "when the load began: 2026-11-26T14:00:00Z", "tidemark backfill"} {
				if !strings.Contains(told, want) {
					t.Errorf("told %q, want %q in it", told, want)
				}
			}
		})
	}
}
