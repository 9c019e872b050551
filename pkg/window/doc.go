// Package window aggregates events by event time: by when a thing happened, not by when it was heard of.
//
// # The problem
//
// Events arrive out of order. Whoever counts per minute must decide when a minute is over, and what to do with an event that comes after
// that. The answer here has four parts.
//
//   - A window is a half-open span of event time, [start, end). See [Windows]: tumbling, hopping, session and calendar windows.
//
//   - The watermark W says: "every event with a time before W is presumed seen". It trails the largest event time by a bound that the
//     query chooses, and it never goes back. W is exclusive, like the end of a window, so there is no "minus one" anywhere.
//
//   - A window fires when W reaches its end: its result comes out, with revision 1. It lives on until W has passed its end by the allowed
//     lateness. An event that comes in that time still counts, and the new value comes out as the next revision.
//
//   - Then the window is gone. An event is late for the windows that are gone, and only for them. It is not lost: it comes out as late, with the
//     windows that missed it, and [Recompute] makes them good from the log.
//
//     W is here
//     |
//     gone      fired    |    open
//     ------------|--------|--------------------> event time
//     W - allowed lateness
//
// # The engine
//
// An [Engine] holds one query's live windows. [Engine.Apply] takes one event and says what became of it (its [Verdict]), and which
// results came out. [Engine.Tick] tells of time that went by without events. Every event has exactly one verdict, so for [Counts] always holds
//
//	Read = Counted + PartiallyLate + TooLate + Duplicates + FutureSkew + NoID
//
// # What makes it trustworthy
//
// An engine is a pure state machine: no clock, no goroutine, no input or output. The only clock is in the log itself: each event carries the
// time at which the log stored it. The same events in the same order therefore give the same results, today, in a test, or when the log
// is read again after a year. [Engine.Snapshot] and [Restore] cut that history at any event, and nothing comes out differently.
//
// What comes out does not depend on how events are batched. Lateness is decided event by event, also in micro-batches: [Coalesce] only leaves
// out results that a later one of the same batch replaces.
//
// Results are what a batch over the same events would give. For sessions that takes more than a watermark: a session that was dropped leaves a tombstone, so that
// no later one overlaps it, and one that grows after it came out is retracted with its old bounds.
//
// Duplicates are known by their id for as long as a window lives that has the event. After that a copy is late, and [Recompute] counts it once. So
// nothing is ever counted twice, and there is no horizon to choose.
//
// # What keeps time going
//
// A query may read several partitions of a log. Each has a watermark, and the least holds. A partition that is silent for [Config.Idle] is no longer
// waited for; and when all are silent, time goes on behind the log's own clock, so that the last windows fire. A partition that wakes up does not pull W back.
//
// Two guards keep one bad clock from doing harm. An event dated more than [Config.MaxFuture] ahead of its store time is not counted, but
// comes out with verdict [FutureSkew]. And no event moves the watermark past its store time, however it is dated. So an event dated ten years ahead
// costs one late record, and no window.
//
// # How a service uses it
//
// One engine for each query, all fed by one reader of one totally ordered log. For each message of the log, in its order:
//
//	out := engine.Apply(event)          // where the query takes it
//	results := engine.Tick(storeTime)   // where it does not, and for heartbeats: each message of the log tells the time
//
// The results, the late events and the position in the log belong into one commit; only what is committed is published. In event-by-event mode all results are
// committed as they come. In micro-batch mode those of a batch go through [Coalesce] first.
//
// Of the state, two ways lead to a restart. One is to keep a [Engine.Snapshot] at some position of the log, and to read the log again from there to the
// commit, publishing nothing. Since the state is a function of the log, it is the same state; a commit is then small, whatever an engine
// holds. The other is to store a snapshot with each commit, which suits small states. There is no third one, of changes to the state: what changes with each event is
// mostly its id, and that is in the log already.
//
// For the choice of bound and lateness, put [Outcome.Sample] into a histogram: the share of events with an overrun less than x is what a bound of x would have on
// time.
//
// # Where things are
//
// windows.go and calendar.go cut time. watermark.go is the line between past and present. aligned.go holds windows that all keys share, sessions.go those that each key
// has of its own. aggregate.go and ranking.go make values. engine.go puts it together, snapshot.go and reader.go write and read it, recompute.go is the backfill.
package window
