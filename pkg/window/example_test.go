package window_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

func at(clock string) int64 {
	t, err := time.Parse(time.RFC3339, "2026-03-01T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return t.UnixMilli()
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05") }

func must(e *window.Engine, err error) *window.Engine {
	if err != nil {
		panic(err)
	}
	return e
}

func show(results []window.Result) {
	for _, r := range results {
		fmt.Printf("  %s %s to %s: %d, revision %d, %s\n", r.Key, clock(r.Start), clock(r.End), r.Value.Number, r.Revision, r.Timing)
	}
}

// Orders a minute. The third event comes out of order and is counted; the fifth comes after its minute is gone and is late.
func ExampleEngine_Apply() {
	orders := must(window.New(window.Config{Windows: window.Tumbling(time.Minute, 0), Bound: 10 * time.Second}))
	for i, eventTime := range []string{"09:00:20", "09:01:05", "09:00:58", "09:01:12", "09:00:59"} {
		out := orders.Apply(window.Event{ID: fmt.Sprint("order-", i), Key: "orders", Time: at(eventTime), Stored: at("09:05:00")})
		w, _ := orders.Watermark()
		fmt.Println(eventTime, out.Verdict, "watermark", clock(w))
		show(out.Results)
		for _, missed := range out.Missed {
			fmt.Println("  missed", clock(missed.Start), "to", clock(missed.End))
		}
	}
	// Output:
	// 09:00:20 counted watermark 09:00:10
	// 09:01:05 counted watermark 09:00:55
	// 09:00:58 counted watermark 09:00:55
	// 09:01:12 counted watermark 09:01:02
	//   orders 09:00:00 to 09:01:00: 2, revision 1, on_time
	// 09:00:59 too_late watermark 09:01:02
	//   missed 09:00:00 to 09:01:00
}

// Units sold in the last two minutes, each minute. An event is in two windows.
func ExampleHopping() {
	units := must(window.New(window.Config{Windows: window.Hopping(2*time.Minute, time.Minute, 0), Aggregate: window.Sum()}))
	show(units.Apply(window.Event{ID: "1", Key: "teapot", Value: 3, Time: at("09:00:30"), Stored: at("09:00:30")}).Results)
	show(units.Apply(window.Event{ID: "2", Key: "teapot", Value: 2, Time: at("09:01:30"), Stored: at("09:01:30")}).Results)
	fmt.Println("the end")
	show(units.End())
	// Output:
	//   teapot 08:59:00 to 09:01:00: 3, revision 1, on_time
	// the end
	//   teapot 09:00:00 to 09:02:00: 5, revision 1, on_time
	//   teapot 09:01:00 to 09:03:00: 2, revision 1, on_time
}

// A visit ends after ten minutes without a click. The third click lies between two visits and makes them one: what has come out is retracted.
func ExampleSession() {
	visits := must(window.New(window.Config{Windows: window.Session(10 * time.Minute), Lateness: time.Hour}))
	for i, eventTime := range []string{"09:00:00", "09:18:00", "09:09:00", "09:40:00"} {
		fmt.Println(eventTime)
		show(visits.Apply(window.Event{ID: fmt.Sprint(i), Key: "ann", Time: at(eventTime), Stored: at("10:00:00")}).Results)
	}
	// Output:
	// 09:00:00
	// 09:18:00
	//   ann 09:00:00 to 09:10:00: 1, revision 1, on_time
	// 09:09:00
	//   ann 09:00:00 to 09:10:00: 0, revision 2, retract
	// 09:40:00
	//   ann 09:00:00 to 09:28:00: 3, revision 1, on_time
}

// The day on which clocks in Berlin go forward has 23 hours; the one on which they go back has 25.
func ExampleCalendar() {
	days := window.Calendar(window.Day, "Europe/Berlin")
	for _, noon := range []time.Time{
		time.Date(2026, time.March, 28, 12, 0, 0, 0, time.UTC), time.Date(2026, time.March, 29, 12, 0, 0, 0, time.UTC), time.Date(2026, time.October, 25, 12, 0, 0, 0, time.UTC),
	} {
		day := days.Of(noon.UnixMilli())[0]
		fmt.Println(time.UnixMilli(day.Start).UTC().Format(time.RFC3339), time.Duration(day.End-day.Start)*time.Millisecond)
	}
	// Output:
	// 2026-03-27T23:00:00Z 24h0m0s
	// 2026-03-28T23:00:00Z 23h0m0s
	// 2026-10-24T22:00:00Z 25h0m0s
}

// A click of 11:58 pm that arrives at 12:03 am: its hour has come out, and comes out again with it.
func ExampleConfig_lateness() {
	clicks := must(window.New(window.Config{Windows: window.Tumbling(time.Hour, 0), Bound: time.Minute, Lateness: time.Hour}))
	const minute = 60_000
	midnight := at("23:00:00") + 60*minute
	for i, c := range []struct{ happened, stored int64 }{
		{midnight - 30*minute, midnight - 30*minute}, {midnight + 1*minute, midnight + 1*minute}, {midnight - 2*minute, midnight + 3*minute},
	} {
		out := clicks.Apply(window.Event{ID: fmt.Sprint(i), Key: "/teapots", Time: c.happened, Stored: c.stored})
		fmt.Println("a click of", clock(c.happened), "at", clock(c.stored), out.Verdict)
		show(out.Results)
	}
	// Output:
	// a click of 23:30:00 at 23:30:00 counted
	// a click of 00:01:00 at 00:01:00 counted
	//   /teapots 23:00:00 to 00:00:00: 1, revision 1, on_time
	// a click of 23:58:00 at 00:03:00 counted
	//   /teapots 23:00:00 to 00:00:00: 2, revision 2, late
}

// Two partitions. One falls silent, and holds time back only until it has been silent for a minute. When both are silent time goes on behind the log's clock.
func ExampleConfig_idle() {
	orders := must(window.New(window.Config{Windows: window.Tumbling(time.Minute, 0), Partitions: 2, Idle: time.Minute}))
	orders.Apply(window.Event{ID: "1", Key: "orders", Time: at("09:00:10"), Stored: at("09:00:10"), Partition: 0})
	orders.Apply(window.Event{ID: "2", Key: "orders", Time: at("09:00:20"), Stored: at("09:00:20"), Partition: 1})
	orders.Apply(window.Event{ID: "3", Key: "orders", Time: at("09:01:15"), Stored: at("09:01:15"), Partition: 0})
	for _, heartbeat := range []string{"09:01:19", "09:01:20", "09:02:59", "09:03:00"} {
		results := orders.Tick(at(heartbeat))
		w, _ := orders.Watermark()
		fmt.Println(heartbeat, "watermark", clock(w))
		show(results)
	}
	// Output:
	// 09:01:19 watermark 09:00:20
	// 09:01:20 watermark 09:01:15
	//   orders 09:00:00 to 09:01:00: 2, revision 1, on_time
	// 09:02:59 watermark 09:01:59
	// 09:03:00 watermark 09:02:00
	//   orders 09:01:00 to 09:02:00: 1, revision 1, on_time
}

// One clock is ten years ahead. It costs one late record: the watermark stays where it was, and the honest event after it is counted.
func ExampleConfig_maxFuture() {
	clicks := must(window.New(window.Config{Windows: window.Tumbling(time.Minute, 0)}))
	now := at("09:00:30")
	decade := (10 * 365 * 24 * time.Hour).Milliseconds()
	for i, t := range []int64{now, now + decade, now} {
		out := clicks.Apply(window.Event{ID: fmt.Sprint(i), Time: t, Stored: now})
		w, _ := clicks.Watermark()
		fmt.Println(out.Verdict, "watermark", clock(w))
	}
	// Output:
	// counted watermark 09:00:30
	// future_skew watermark 09:00:30
	// counted watermark 09:00:30
}

// The best sellers: the key says in what, the item is what is ranked.
func ExampleTop() {
	best := must(window.New(window.Config{Windows: window.Tumbling(time.Minute, 0), Aggregate: window.Top(2)}))
	for i, sold := range []struct {
		sku   string
		units int64
	}{{"teapot", 1}, {"mug", 4}, {"spoon", 2}, {"teapot", 2}} {
		best.Apply(window.Event{ID: fmt.Sprint(i), Item: sold.sku, Value: sold.units, Time: at("09:00:30"), Stored: at("09:00:30")})
	}
	for _, r := range best.End() {
		fmt.Println(r.Value.Number, "units:", r.Value.Top)
	}
	// Output:
	// 9 units: [{mug 4} {teapot 3}]
}

// An order with several lines is one event with several parts: it counts once, and each line adds to its article.
func ExampleEvent_parts() {
	best := must(window.New(window.Config{Windows: window.Tumbling(time.Minute, 0), Aggregate: window.Top(2)}))
	for i, lines := range [][]window.Part{{{Item: "teapot", Value: 1}, {Item: "mug", Value: 4}}, {{Item: "teapot", Value: 2}, {Item: "spoon", Value: 2}}} {
		best.Apply(window.Event{ID: fmt.Sprint("order-", i), Parts: lines, Time: at("09:00:30"), Stored: at("09:00:30")})
	}
	for _, r := range best.End() {
		fmt.Println(r.Count, "orders,", r.Value.Number, "units:", r.Value.Top)
	}
	// Output:
	// 2 orders, 9 units: [{mug 4} {teapot 3}]
}

// A micro-batch says of each window what there is to say at its end.
func ExampleCoalesce() {
	orders := must(window.New(window.Config{Windows: window.Tumbling(time.Minute, 0), Lateness: time.Hour}))
	var batch []window.Result
	for i, eventTime := range []string{"09:00:20", "09:01:00", "09:00:30", "09:00:40"} {
		batch = append(batch, orders.Apply(window.Event{ID: fmt.Sprint(i), Key: "orders", Time: at(eventTime), Stored: at(eventTime)}).Results...)
	}
	fmt.Println(len(batch), "results, coalesced:")
	show(window.Coalesce(batch))
	// Output:
	// 3 results, coalesced:
	//   orders 09:00:00 to 09:01:00: 3, revision 3, late
}

// A repeated event changes nothing, and a restart in between does not make the engine forget.
func ExampleRestore() {
	cfg := window.Config{Windows: window.Tumbling(time.Minute, 0)}
	before := must(window.New(cfg))
	click := window.Event{ID: "click-7", Time: at("09:00:30"), Stored: at("09:00:31")}
	fmt.Println(before.Apply(click).Verdict)

	after := must(window.Restore(cfg, before.Snapshot()))
	fmt.Println(after.Apply(click).Verdict)
	fmt.Printf("%+v\n", after.Counts())
	// Output:
	// counted
	// duplicate
	// {Counted:1 PartiallyLate:0 TooLate:0 Duplicates:1 FutureSkew:0 NoID:0}
}

// An order came when its minute was gone. The minute is computed again from the log, and replaces what was published. A second run finds nothing to do.
func ExampleRecompute() {
	cfg := window.Config{Windows: window.Tumbling(time.Minute, 0)}
	live := must(window.New(cfg))
	var published []window.Result
	var log []window.Event
	var misses []window.Miss
	for i, eventTime := range []string{"09:00:20", "09:01:00", "09:00:40"} {
		ev := window.Event{ID: fmt.Sprint(i), Key: "orders", Time: at(eventTime), Stored: at(eventTime)}
		log = append(log, ev)
		out := live.Apply(ev)
		published = append(published, out.Results...)
		for _, w := range out.Missed {
			misses = append(misses, window.Miss{Key: ev.Key, Window: w})
		}
	}
	show(published)
	for range 2 {
		gone, _ := live.Gone()
		job, err := window.NewRecompute(cfg, gone)
		if err != nil {
			panic(err)
		}
		for _, m := range misses {
			job.Miss(m)
		}
		for _, ev := range log {
			job.Apply(ev)
		}
		results, _ := job.Results(slices.Values(published))
		fmt.Println("backfill:", len(results))
		show(results)
		published = append(published, results...)
	}
	// Output:
	//   orders 09:00:00 to 09:01:00: 1, revision 1, on_time
	// backfill: 1
	//   orders 09:00:00 to 09:01:00: 2, revision 2, backfill
	// backfill: 0
}

// How long to wait? The overruns of past events tell: a bound that is larger than an overrun would have had that event on time.
func ExampleSample() {
	orders := must(window.New(window.Config{Windows: window.Tumbling(time.Minute, 0), Bound: time.Hour}))
	var overruns []time.Duration
	for i, eventTime := range []string{"09:00:20", "09:01:05", "09:00:58", "09:01:40", "09:00:59"} {
		out := orders.Apply(window.Event{ID: fmt.Sprint(i), Time: at(eventTime), Stored: at("09:05:00")})
		if out.Sample.Valid {
			overruns = append(overruns, time.Duration(out.Sample.Overrun)*time.Millisecond)
		}
	}
	fmt.Println(overruns)
	// Output:
	// [-1m40s 5s -55s 40s]
}
