// Package window aggregates events by event time: by when a thing happened, not by when it was heard of.
//
// # The problem
//
// Events arrive out of order. Whoever counts per minute must decide when a minute is over, and what to do with an event that comes after
// that. The answer here has three parts.
//
//   - A window is a half-open span of event time, [start, end). See [Windows].
//   - The watermark W says: "every event with a time before W is presumed seen". It trails the largest event time by a bound that the
//     query chooses, and it never goes back. W is exclusive, like the end of a window, so there is no "minus one" anywhere.
//   - A window is open while W < end. When W reaches its end it fires: its result comes out, once. An event whose window has fired is
//     late. It is not counted and it is not lost either: it comes out as late, with the window that it missed.
//
// # The engine
//
// An [Engine] holds one query's open windows. [Engine.Apply] takes one event and says what became of it: counted, late or a duplicate,
// and which windows fired. Every event has exactly one of these verdicts, so for [Counts] always holds
//
//	Read = Counted + Late + Duplicates
//
// # What makes it trustworthy
//
// An engine is a pure state machine: no clock, no goroutine, no input or output. The only clock is in the events themselves: each carries the
// time at which the log stored it. The same events in the same order therefore give the same results, today, in a test, or when the log
// is read again after a year. [Engine.Snapshot] and [Restore] cut that history at any event, and nothing comes out differently.
//
// Two guards keep one bad clock from doing harm. An event dated more than [Config.MaxFuture] ahead of its store time is late with reason
// [FutureSkew]. And no event moves the watermark past its store time, however it is dated. So an event dated ten years ahead
// costs one late record, and no window.
//
// # What it does not do yet
//
// Windows are tumbling. A fired window is final (the allowed lateness is 0). The watermark moves with events only: when they stop
// coming, the last windows stay open, since nothing says that time goes on.
package window
