package window_test

import (
	"fmt"
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

// Orders a minute. The third event comes out of order and is counted; the fifth comes after its minute has fired and is late.
func ExampleEngine_Apply() {
	orders, err := window.New(window.Config{Windows: window.Tumbling(time.Minute, 0), Bound: 10 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, eventTime := range []string{"09:00:20", "09:01:05", "09:00:58", "09:01:12", "09:00:59"} {
		out := orders.Apply(window.Event{ID: fmt.Sprint("order-", i), Time: at(eventTime), Stored: at("09:05:00")})
		w, _ := orders.Watermark()
		fmt.Println(eventTime, out.Verdict, "watermark", clock(w))
		for _, r := range out.Results {
			fmt.Printf("  %s to %s: %d orders\n", clock(r.Start), clock(r.End), r.Value.Number)
		}
		for _, missed := range out.Missed {
			fmt.Printf("  %s: missed %s to %s\n", out.Verdict, clock(missed.Start), clock(missed.End))
		}
	}
	// Output:
	// 09:00:20 counted watermark 09:00:10
	// 09:01:05 counted watermark 09:00:55
	// 09:00:58 counted watermark 09:00:55
	// 09:01:12 counted watermark 09:01:02
	//   09:00:00 to 09:01:00: 2 orders
	// 09:00:59 too_late watermark 09:01:02
	//   too_late: missed 09:00:00 to 09:01:00
}

// A sum for each key.
func ExampleConfig_aggregate() {
	revenue, err := window.New(window.Config{Windows: window.Tumbling(time.Minute, 0), Aggregate: window.Sum()})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := at("09:00:30")
	revenue.Apply(window.Event{ID: "1", Key: "GBP", Time: now, Stored: now, Value: 250})
	revenue.Apply(window.Event{ID: "2", Key: "EUR", Time: now, Stored: now, Value: 990})
	revenue.Apply(window.Event{ID: "3", Key: "GBP", Time: now, Stored: now, Value: 100})
	for _, r := range revenue.End() {
		fmt.Println(r.Key, r.Count, r.Value.Number)
	}
	// Output:
	// EUR 1 990
	// GBP 2 350
}

// One clock is ten years ahead. It costs one late record: the watermark stays where it was, and the honest event after it is counted.
func ExampleConfig_maxFuture() {
	clicks, err := window.New(window.Config{Windows: window.Tumbling(time.Minute, 0)})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := at("09:00:30")
	decade := (10 * 365 * 24 * time.Hour).Milliseconds()
	for _, t := range []int64{now, now + decade, now} {
		out := clicks.Apply(window.Event{ID: fmt.Sprint(clicks.Counts().Read()), Time: t, Stored: now})
		w, _ := clicks.Watermark()
		fmt.Println(out.Verdict, "watermark", clock(w))
	}
	// Output:
	// counted watermark 09:00:30
	// future_skew watermark 09:00:30
	// counted watermark 09:00:30
}

// A repeated event changes nothing, and a restart in between does not make the engine forget.
func ExampleRestore() {
	cfg := window.Config{Windows: window.Tumbling(time.Minute, 0)}
	before, err := window.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	click := window.Event{ID: "click-7", Time: at("09:00:30"), Stored: at("09:00:31")}
	fmt.Println(before.Apply(click).Verdict)

	after, err := window.Restore(cfg, before.Snapshot())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(after.Apply(click).Verdict)
	fmt.Println(after.Counts().Read(), "read,", after.Counts().Counted, "counted")
	// Output:
	// counted
	// duplicate
	// 2 read, 1 counted
}
