package window

import "fmt"

// Event is what an [Engine] needs to know of one event.
type Event struct {
	// ID is the producer's, unique among the query's events. A second event with the id of one that is in a live window is a
	// duplicate. Required: without it nothing would keep a repeated event from counting twice.
	ID string
	// Key is what the query groups by; each key has windows of its own. May be empty.
	Key string
	// Item is what [Top] ranks. Others ignore it.
	Item string
	// Value is what [Sum] and others take.
	Value int64
	// Parts are several items with their values, in place of Item and Value: an order with its lines. The event is one all the same: it has one id, is in all its
	// windows with all its parts or in none, and counts once.
	Parts []Part
	// Time is event time, epoch milliseconds.
	Time int64
	// Stored is when the log stored the event, epoch milliseconds: the engine's only clock. A step back is ignored (the running maximum holds).
	Stored int64
	// Partition is the partition of the log that holds the event, 0 or more and less than [Config.Partitions].
	Partition int
}

// Part is what an event adds to its windows: an item and a value.
type Part struct {
	Item  string
	Value int64
}

// parts are what the event adds, one or more. Of an event that does not list them it is its Item and Value, for which single has room.
func (ev *Event) parts(single *[1]Part) []Part {
	if len(ev.Parts) > 0 {
		return ev.Parts
	}
	single[0] = Part{Item: ev.Item, Value: ev.Value}
	return single[:]
}

// Verdict is what became of an event. The texts of those that are [Verdict.Late] are part of the contract of the late stream.
type Verdict uint8

// The verdicts. Every event has exactly one.
const (
	Counted       Verdict = iota // it is in all its windows
	PartiallyLate                // some of its windows were gone, the others have it
	TooLate                      // all its windows were gone
	Duplicate                    // an event with its id is in a live window: nothing changes
	FutureSkew                   // it is dated more than Config.MaxFuture ahead of its store time
	NoID                         // it has no id
	verdicts
)

func (v Verdict) String() string {
	if v >= verdicts {
		return fmt.Sprintf("Verdict(%d)", uint8(v))
	}
	return [verdicts]string{"counted", "partially_late", "too_late", "duplicate", "future_skew", "no_id"}[v]
}

// Late says that some window does not count the event and no other event stands for it: it belongs into the late stream, with [Outcome.Missed].
func (v Verdict) Late() bool {
	return v == PartiallyLate || v == TooLate || v == FutureSkew || v == NoID
}

// Timing is when a result came out, seen from its window. The texts are part of the contract of the result stream.
type Timing string

// The timings.
const (
	OnTime   Timing = "on_time"  // the watermark reached the window's end
	Late     Timing = "late"     // the window had ended before; the value is the new one
	Retract  Timing = "retract"  // the window is no more: a session that has become part of a larger one
	Backfill Timing = "backfill" // computed again from the log, see Recompute
	Open     Timing = "open"     // the window has not ended: the value so far, see Engine.Open
)

// Result is the value of one key in one window. The result of a window with a higher revision replaces the one before it.
type Result struct {
	Key string
	Window
	Count    int64 // how many events; 0 of a retraction
	Value    Value // what Config.Aggregate says; zero of a retraction
	Revision int   // 1 for the first result of a window; 0 while it is open
	Timing   Timing
}

// Outcome is what one event did.
type Outcome struct {
	Verdict Verdict
	// Missed are the windows that do not count the event, where the verdict is late.
	Missed []Window
	// Results are what came out: revisions and retractions for the event itself, then the windows that fired after it, in the order of end, start, key.
	Results []Result
	// Sample says how late the event was. See [Sample].
	Sample Sample
}

// Sample is how late an event was when it came, whatever the bound: what one needs to choose the bound. It is measured at events with the verdicts
// Counted, PartiallyLate and TooLate, as soon as every partition that is waited for has had one before.
//
// With the same bound for all partitions, an event is on time for its last window iff Overrun < Bound, and lost for it iff Overrun >= Bound + Lateness.
// So the distribution of Overrun tells what each bound would catch.
type Sample struct {
	Valid    bool
	Overrun  int64 // milliseconds from the end of the event's last window to the event time that the log had reached; negative: there was slack
	Disorder int64 // milliseconds from the event's time to the event time that the log had reached; 0: it was in order
}

// Counts says what became of all events so far.
type Counts struct {
	Counted, PartiallyLate, TooLate, Duplicates, FutureSkew, NoID uint64
}

// Read is the sum: every event has exactly one verdict.
func (c Counts) Read() uint64 {
	return c.Counted + c.PartiallyLate + c.TooLate + c.Duplicates + c.FutureSkew + c.NoID
}

// Late is how many belong into the late stream.
func (c Counts) Late() uint64 { return c.PartiallyLate + c.TooLate + c.FutureSkew + c.NoID }
