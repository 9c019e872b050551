// Package analytics counts by event time, and takes the clickstream in.
//
// It reads TIMELINE, one totally ordered log of orders, clicks and heartbeats, through the consumer group "analytics": one partition, one
// active instance, others stand by. Each query of queries.go has an engine of pkg/window with a watermark of its own, made of the events that
// the query takes: a click of today does not close a window of an order of 2010.
//
// # Exactly once
//
// What is in memory is a function of the log: the same events in the same order give the same windows. What makes the results exactly-once is
// one message a step. A step is what the log's reader hands over at once.
//
//	apply    the events of the step go through the engines, in memory
//	commit   one record on one subject: the log's sequence, the counts, and the outputs of the step. The broker takes it only if the
//	         record before it is the one we know: of two instances, one is refused
//	publish  the outputs go to WINDOWS and LATE, each so that a second try changes nothing
//	ack      the reader acknowledges the step
//
// A crash before the commit leaves nothing; the step is read again. A crash after it leaves a record that has the outputs: whoever goes on
// publishes them again first. While a commit is under way the next step gathers, so an idle system commits each event at once, and a busy one
// a thousand together, without a timer.
//
// A record does not hold the open windows. It names a base: a snapshot of the engines at an earlier sequence, stored beside the records. To go on, an
// instance loads the base and reads TIMELINE from there to the record's sequence, publishing nothing. A new base is written when it is cheaper
// than the events that it saves from being read again, so both the writing and the reading stay small. See base.go.
//
// # Nothing is silently missing
//
// For every query, always:
//
//	read = counted + late + duplicates + unreadable
//
// Late events are in LATE with the windows that they missed. An event that can't be read is a dead letter of the group. GET /v1/windows and
// GET /v1/projections/windows show the counts.
//
// # What it does not do yet
//
// Watermarks move with events only. When orders stop coming, the last minutes stay open until the next order, however much time goes by. A window
// that has closed is final. Both come with allowed lateness and idleness.
//
// The files: queries.go says what is counted, state.go applies events, record.go and journal.go are the commit, base.go the snapshots,
// outputs.go publishes, worker.go is the step, replay.go how an instance goes on, tail.go reads a stream. index.go holds closed windows for
// the HTTP API of windows.go; clicks.go is the way in for clicks.
package analytics
