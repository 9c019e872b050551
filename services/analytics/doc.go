// Package analytics counts by event time, and takes the clickstream in.
//
// It reads TIMELINE, one totally ordered log of orders, clicks and heartbeats, through the consumer group "analytics": one partition, one
// active instance, others stand by. Each query of queries.go has an engine of pkg/window with a watermark of its own, made of the partitions that its
// events come from: a click of today does not close a window of an order of 2010. Every message of the log tells every engine the time, so a
// partition that is silent is not waited for, and the last windows of a quiet evening come out.
//
// # Exactly once
//
// What is in memory is a function of the log: the same events in the same order give the same windows. What makes the results exactly-once is
// one message a step. A step is what the log's reader hands over at once.
//
//	apply    the events of the step go through the engines, in memory
//	commit   one record on one subject: the log's sequence, the counts, and the outputs of the step. The broker takes it only if the
//	         record before it is the one we know: of two instances, one is refused
//	publish  the outputs go to WINDOWS, LATE and ALERTS, each so that a second try changes nothing
//	ack      the reader acknowledges the step
//
// A crash before the commit leaves nothing; the step is read again. A crash after it leaves a record that has the outputs: whoever goes on
// publishes them again first. While a commit is under way the next step gathers, so an idle system commits each event at once, and a busy one
// a thousand together, without a timer.
//
// A record does not hold the open windows. It names a base: a snapshot of the engines at an earlier sequence, stored beside the records. To go on, an
// instance loads the base and reads TIMELINE from there to the record's sequence, publishing nothing. A new base is written when it is cheaper
// than the events that it saves from being read again, so both the writing and the reading stay small. It is written a little with each step, behind
// the step's results, so that none waits for it. See base.go and draft.go.
//
// A result carries the sequence of the message that made it come out. The last message on the subject of a window is the truth about it, and nobody puts an earlier
// one on top of it: not a step that is published again, nor an instance that wakes up late. See outputs.go.
//
// # Two modes, one core
//
// Engines always work event by event. A query in micro-batch mode holds its results back, and lets them come out together, each window once; late events are never held. So what is counted,
// what is late and the last result of each window are the same in both modes. See held.go. Where every query works in batches, the step gathers as well. A batch that has had its time comes out though nothing is read meanwhile:
// a clock decides when results are stored, never what they are.
//
// # A query that is new
//
// It starts from history, TIMELINE's first message, and reads it alone, before the instance goes on with the others. See catchup.go. A changed meaning under an old name is refused.
//
// # Nothing is silently missing
//
// For every query, always:
//
//	read = counted + partially late + too late + future skew + no id + duplicates + unreadable
//
// Late events are in LATE with the windows that they missed. An event that can't be read is a dead letter of the group. GET /v1/windows and
// GET /v1/projections/windows show the counts. A log that does not hold what was committed is refused, and Service.Healthy says so.
//
// The files: queries.go says what is counted, plan.go and settings.go how; state.go applies events, held.go keeps results back, record.go and journal.go are the
// commit, snapshot.go, base.go and draft.go the snapshots, outputs.go and lates.go publish, worker.go is the step, replay.go and catchup.go how an instance goes on, tail.go reads a stream. index.go holds
// closed windows for the HTTP API of windows.go, view.go lets it look at the worker; clicks.go is the way in for clicks. backfill.go and its neighbours compute windows again that
// late events have missed, the package lateness says how long to wait.
package analytics
