package lateness_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
	"github.com/tidemark/tidemark/services/analytics/lateness"
)

// delays is how late events come in the simulation: 95 % exponential with a mean of 200 ms, 4.9 % lognormal with a median of 5 s, 0.1 % Pareto from 60 s.
func delay(r *rand.Rand) int64 {
	switch u := r.Float64(); {
	case u < 0.95:
		return int64(r.ExpFloat64() * 200)
	case u < 0.999:
		return int64(5000 * math.Exp(r.NormFloat64()))
	default:
		return int64(60_000 * math.Pow(1-r.Float64(), -1/1.5))
	}
}

// simulate runs an engine over n events, 1,000 a second of event time, and returns the meter and all overruns that it saw.
func simulate(t *testing.T, windows window.Windows, n int) (*lateness.Meter, []int64) {
	t.Helper()
	r := rand.New(rand.NewPCG(42, 1))
	type event struct{ time, stored int64 }
	events := make([]event, n)
	for i := range events {
		at := int64(1_700_000_000_000 + i)
		events[i] = event{at, at + delay(r)}
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(a.stored - b.stored) })
	engine, err := window.New(window.Config{Windows: windows})
	if err != nil {
		t.Fatal(err)
	}
	m := lateness.New(0)
	var exact []int64
	for i, ev := range events {
		out := engine.Apply(window.Event{ID: string(binary(i)), Time: ev.time, Stored: ev.stored})
		m.Add(ev.stored, out.Sample, engine.State(), engine.Size())
		if out.Sample.Valid {
			exact = append(exact, out.Sample.Overrun)
		}
	}
	slices.Sort(exact)
	return m, exact
}

func binary(i int) []byte { return []byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)} }

// shareBelow is the exact share of overruns less than x milliseconds.
func shareBelow(sorted []int64, x int64) float64 {
	at, _ := slices.BinarySearch(sorted, x)
	return float64(at) / float64(len(sorted))
}

func TestCurveAndAdviceAgreeWithExactQuantiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		windows window.Windows
		lost0   [2]float64 // what no wait loses, as the simulation with other random numbers had it
	}{
		{window.Tumbling(time.Second, 0), [2]float64{0.21, 0.235}},
		{window.Tumbling(10*time.Second, 0), [2]float64{0.040, 0.050}},
		{window.Tumbling(time.Minute, 0), [2]float64{0.008, 0.013}},
	} {
		t.Run(c.windows.String(), func(t *testing.T) {
			t.Parallel()
			m, exact := simulate(t, c.windows, 200_000)
			d := m.Sum()
			if d.Events() != uint64(len(exact)) {
				t.Fatalf("%d events measured, want %d", d.Events(), len(exact))
			}
			if lost := 1 - d.Share(0); lost < c.lost0[0] || lost > c.lost0[1] {
				t.Errorf("without a wait %.4f are lost, want about %v", lost, c.lost0)
			}
			for _, p := range lateness.Advise(d, lateness.Setting{Windows: c.windows}, lateness.DefaultTarget()).Curve {
				x := p.Wait.Milliseconds()
				// to the safe side, by one bar at most: a 128th of its value
				if least, most := shareBelow(exact, x-x/128-1), shareBelow(exact, x); p.Share > most || p.Share < least {
					t.Errorf("a wait of %s catches %.6f, exact is %.6f to %.6f", p.Wait, p.Share, least, most)
				}
			}
			for _, q := range []float64{0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1} {
				wait, ok := d.Wait(q)
				if !ok {
					t.Errorf("no wait for %g", q)
				}
				want := max(exact[int(math.Ceil(q*float64(len(exact))))-1]+1, 0) // the least x with P(n < x) >= q
				if got := wait.Milliseconds(); got < want || got > want+want/128+1 {
					t.Errorf("the wait for %g is %d ms, exact is %d ms", q, got, want)
				}
			}
		})
	}
}

func TestAdviceReachesItsTarget(t *testing.T) {
	t.Parallel()
	windows := window.Tumbling(10*time.Second, 0)
	m, exact := simulate(t, windows, 100_000)
	a := lateness.Advise(m.Sum(), lateness.Setting{Windows: windows}, lateness.DefaultTarget())
	p := a.Proposed
	if !a.Reached || p.OnTime < 0.99 || p.Final < 0.9999 || p.Latency != p.Bound || math.Abs(p.Refinements-(p.Final-p.OnTime)) > 1e-12 {
		t.Errorf("proposed %+v, reached %t", p, a.Reached)
	}
	if share := shareBelow(exact, p.Bound.Milliseconds()); share < 0.99 {
		t.Errorf("the proposed bound has %.4f on time", share)
	}
	if a.Now.Peak.Cells == 0 || p.Peak.Cells < a.Now.Peak.Cells || p.PeakBytes < a.Now.PeakBytes {
		t.Errorf("to wait longer costs no memory: %+v now, %+v proposed", a.Now, p)
	}
	// 10 s windows that live for another bound + lateness: so many at once instead of one
	if want := int(math.Ceil(float64(10*time.Second+p.Bound+p.Lateness) / float64(10*time.Second))); p.Peak.Cells != want*a.Now.Peak.Cells {
		t.Errorf("%d cells proposed, want %d times %d", p.Peak.Cells, want, a.Now.Peak.Cells)
	}
}

// Running with what was advised gives the shares that were promised: the overrun does not depend on the bound.
func TestPromiseIsKept(t *testing.T) {
	t.Parallel()
	windows := window.Tumbling(10*time.Second, 0)
	m, _ := simulate(t, windows, 100_000)
	p := lateness.Advise(m.Sum(), lateness.Setting{Windows: windows}, lateness.DefaultTarget()).Proposed
	engine, err := window.New(window.Config{Windows: windows, Bound: p.Bound, Lateness: p.Lateness})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(42, 1))
	type event struct{ time, stored int64 }
	events := make([]event, 100_000)
	for i := range events {
		at := int64(1_700_000_000_000 + i)
		events[i] = event{at, at + delay(r)}
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(a.stored - b.stored) })
	refined := 0
	for i, ev := range events {
		for _, result := range engine.Apply(window.Event{ID: string(binary(i)), Time: ev.time, Stored: ev.stored}).Results {
			if result.Timing == window.Late {
				refined++
			}
		}
	}
	c := engine.Counts()
	if lost := float64(c.Late()) / float64(c.Read()); lost > 1-p.Final+1e-4 {
		t.Errorf("%.6f were lost, promised %.6f", lost, 1-p.Final)
	}
	if got := float64(refined) / float64(c.Read()); math.Abs(got-p.Refinements) > 0.001 {
		t.Errorf("%.4f refined a result, promised %.4f", got, p.Refinements)
	}
}

func TestHoursAreForgotten(t *testing.T) {
	t.Parallel()
	m := lateness.New(0)
	hour := time.Hour.Milliseconds()
	add := func(stored, overrun int64) {
		m.Add(stored, window.Sample{Valid: true, Overrun: overrun}, window.State{Cells: 1}, 10)
	}
	for i := range int64(30) {
		add(i*hour+1, i)
	}
	if d := m.Sum(); d.Events() != lateness.Hours || d.From != 6*hour || d.Until != 29*hour+2 {
		t.Errorf("%d events from %d to %d", d.Events(), d.From, d.Until)
	}
	add(5*hour, -1) // the log's clock does not go back
	if d := m.Sum(); d.Events() != lateness.Hours+1 || d.Slack != 1 {
		t.Errorf("%d events, %d with slack", d.Events(), d.Slack)
	}
	add(1000*hour, 25*hour)
	if d := m.Sum(); d.Events() != 1 || d.Longer != 1 || d.Share(24*time.Hour) != 0 {
		t.Errorf("%d events, %d longer, share %g", d.Events(), d.Longer, d.Share(24*time.Hour))
	}
	if _, ok := m.Sum().Wait(0.5); ok {
		t.Error("there is no wait that reaches what is a day late")
	}
	if d := lateness.New(0).Sum(); d.Events() != 0 || d.Share(0) != 1 {
		t.Error("an empty meter lost something")
	}
}

// What the library says about its bars, ours says too.
func TestBarsAreTheLibrarys(t *testing.T) {
	t.Parallel()
	for v := int64(0); v < 24*time.Hour.Milliseconds(); v += 1 + v/100 {
		h := hdrhistogram.New(1, 24*time.Hour.Milliseconds(), 2)
		if err := h.RecordValue(v); err != nil {
			t.Fatal(err)
		}
		m := lateness.New(0)
		m.Add(0, window.Sample{Valid: true, Overrun: v}, window.State{}, 0)
		last := h.Distribution()
		for _, bar := range last {
			if bar.Count == 0 {
				continue
			}
			if wait, _ := m.Sum().Wait(1); wait.Milliseconds() != bar.To+1 {
				t.Fatalf("an overrun of %d needs a wait of %d, the library's bar ends at %d", v, wait.Milliseconds(), bar.To)
			}
		}
	}
}

func TestSnapshotIsTheMeter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const waits = 500
		a := lateness.New(waits)
		b := a
		overrun := rapid.OneOf(rapid.Int64Range(-5, 1000), rapid.Int64Range(0, 26*60*60*1000))
		for i := range rapid.IntRange(0, 60).Draw(t, "events") {
			stored := rapid.Int64Range(0, 60*60*60*1000).Draw(t, "stored")
			sample := window.Sample{Valid: rapid.Bool().Draw(t, "valid"), Overrun: overrun.Draw(t, "overrun")}
			for m := range map[*lateness.Meter]bool{a: true, b: true} {
				m.Add(stored, sample, window.State{Cells: i, IDs: 2 * i, Tombstones: 1}, 7*i)
			}
			if rapid.Bool().Draw(t, "restart") {
				restored, err := lateness.Restore(waits, b.Snapshot())
				if err != nil {
					t.Fatal(err)
				}
				b = restored
			}
		}
		if !bytes.Equal(a.Snapshot(), b.Snapshot()) {
			t.Fatalf("%x\n%x", a.Snapshot(), b.Snapshot())
		}
		if size := len(a.Snapshot()); size > a.Size() {
			t.Fatalf("%d bytes, Size says %d", size, a.Size())
		}
	})
}

func TestPeaksBeginAnewWithOtherWaits(t *testing.T) {
	t.Parallel()
	m := lateness.New(1000)
	m.Add(0, window.Sample{Valid: true}, window.State{Cells: 9}, 99)
	restored, err := lateness.Restore(2000, m.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if d := restored.Sum(); d.Events() != 1 || d.Peak.Cells != 0 || d.PeakSize != 0 {
		t.Errorf("%+v", d)
	}
}

func FuzzRestore(f *testing.F) {
	m := lateness.New(0)
	m.Add(7*60*60*1000, window.Sample{Valid: true, Overrun: 300}, window.State{Cells: 3}, 9)
	f.Add(m.Snapshot())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := lateness.Restore(0, b)
		if err != nil {
			if !errors.Is(err, lateness.ErrSnapshot) {
				t.Fatal(err)
			}
			return
		}
		again, err := lateness.Restore(0, m.Snapshot())
		if err != nil || !bytes.Equal(again.Snapshot(), m.Snapshot()) {
			t.Fatalf("%v: %x %x", err, again.Snapshot(), m.Snapshot())
		}
	})
}

func TestTargetsAreChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []lateness.Target{{0, 1}, {0.9, 0.8}, {1.1, 1.1}, {math.NaN(), 1}, {0.5, math.NaN()}} {
		if err := bad.Validate(); !errors.Is(err, lateness.ErrTarget) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := lateness.DefaultTarget().Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	samples := make([]window.Sample, 1<<16)
	for i := range samples {
		samples[i] = window.Sample{Valid: true, Overrun: delay(r) - 500}
	}
	m := lateness.New(0)
	for i := 0; b.Loop(); i++ {
		m.Add(int64(i/100), samples[i&(1<<16-1)], window.State{Cells: 1}, 1)
	}
	b.ReportMetric(float64(len(m.Snapshot())), "bytes")
}
