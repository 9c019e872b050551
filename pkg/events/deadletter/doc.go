// Package deadletter is what the system knows about events that a consumer group could not process: the letters, their states, and the jobs that replay or
// discard them. Package bus parks letters and works on them; an operator's tools read them here and write what they want done.
//
// # A letter
//
// A [Letter] is a message of the stream DLQ: the original bytes and headers of one event, with an envelope of Dlq-… headers that says which group failed, why, and
// where the event stands in its own stream. Its subject names the group, the partition and the key, so that the letters of one key stand in the order in which
// they were parked. While a key has a letter, the group parks later events of the key behind it (reason [ReasonPredecessor]): the letter itself is the lock on its key,
// there is no second record that could disagree. A letter is written once and never changed. It is removed when it is resolved or discarded, which frees its key.
//
// # Its states
//
// What becomes of a letter stands in the stream DLQCTL. Each message there is an [Entry]: the letter's new state and its audit record (who, when, why, before) in
// one, so neither can be there without the other. The state is the last entry, the history is all of them, and the lock is the subject's last sequence. A letter
// without an entry is in the state that its envelope says ([Initial]).
//
//	           ┌────────────┐  due   ┌───────────┐ handled   ┌──────────┐
//	parked ──▶ │  retrying  │ ─────▶ │ replaying │ ────────▶ │ resolved │
//	           └────────────┘ ◀───── └───────────┘           └──────────┘
//	           ┌────────────┐ failed   ▲   ▲   │
//	parked ──▶ │  blocked   │ ─────────┘   │   │ failed for good, depth + 1
//	           └────────────┘ key is free  │   ▼
//	           ┌────────────┐ a job says so│ ┌──────┐   a job says so  ┌───────────┐
//	parked ──▶ │    dead    │ ─────────────┘ │ dead │ ───────────────▶ │ discarded │
//	           └────────────┘                └──────┘                  └───────────┘
//
// A letter is discarded from retrying, blocked and dead. Notes and edits change no state. An event may be parked again after it was resolved, for example when an operator moved
// its group back: an entry names the message that it is about ([Entry.LetterSequence]), and says nothing about a later one.
//
// # Jobs
//
// A [Job] asks the group to replay or discard letters. Its list is frozen when it is made; what is parked later is not in it. The member that owns a letter's
// partition does the work, inside its per-key order, so a replay reaches the group that failed and no other. The job's subject holds its list and then its progress; cancelling is one
// more message there.
//
// # Who writes what
//
//   - DLQ: the owner of the partition alone parks and removes letters.
//   - DLQCTL, dlqctl.letter.<group>.<id>: the owner writes every state. Operators write notes and edits, which keep it.
//   - DLQCTL, dlqctl.job.<group>.<id>: an operator makes and cancels, owners write progress. All of it under the lock of the subject's last sequence.
//   - DLQCTL, dlqctl.crash.<group>.<partition>: owners alone; see package bus.
package deadletter
