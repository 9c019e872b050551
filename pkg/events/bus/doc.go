// Package bus publishes events and reads them as consumer groups, on NATS JetStream.
//
// # How a group reads
//
// Each partition of a group is one durable pull consumer with explicit acknowledgements. Its owner is the member to which the broker has pinned it; the
// broker hands it on when the owner has been silent for the pin's time to live. Within a partition, a keyed executor handles events of one key in order and
// different keys at once.
//
// Who asks for a partition is agreed on without a leader: each member puts a heartbeat into a key-value bucket that forgets it after three seconds, watches those of
// the others, and computes from the list of members which partitions are its own (assign.go): evenly, and with few moves when somebody comes or goes. Only evenness
// rests on this. Two members may see different lists for a while, and the bucket may be away (then every member stands by on everything): the pin still admits one
// owner at a time, and the rule below keeps the order.
//
// That alone loses the order when an owner dies. Say it has acknowledged version 58 of an order and holds version 59 in its executor. The next owner
// gets at once what was never delivered, such as version 60; version 59 comes again only after AckWait. Waiting for redeliveries first does not
// help: the broker mixes them with new messages. What helps is one rule, which needs no epoch and no second store:
//
//  1. Who is given the pin reads the consumer's state and resets the consumer to its ack floor. The broker forgets what is pending, numbers
//     deliveries from 1 again, and sends everything above the floor in the order of the stream.
//  2. Accept a message only if its consumer sequence is the next one. Anything else means that somebody else read or reset: drop it without
//     acknowledgement, let running handlers end, forget the queue, and start over at 1.
//  3. A message that is in sequence but was delivered before (AckWait passed, or an acknowledgement was lost): acknowledge it again if it is done,
//     ignore it if it is in flight, else start over.
//  4. Acknowledge, or leave alone. Never Nak, never Term: both let newer events of a key overtake. Retries happen in place, then the event is
//     parked as a dead letter, and then acknowledged.
//  5. Read at most so far ahead of the ack floor: that is what a crash repeats.
//  6. An owner that stops, or whose partition is another member's now, finishes what it has, waits until its acknowledgements are in, returns the rest and
//     frees the pin. The next owner is waiting for it.
//
// Why it is sound: below the ack floor everything was acknowledged, which means done. Above it everything comes again, in order. An acknowledgement that
// comes late can only settle what was really done. The pin is not exclusive, though: an owner that was paused may still act when it wakes. So
// what handlers write must be fenced by a lock (the store's expected sequence), and handling an event twice must do no harm.
//
// # One event's way
//
// The pipeline of an event is fixed: recover → trace → decode → check → deduplicate → time limit → handle → classify → settle. Package fail says how a handler's error is
// classified. An event that can't be handled becomes a dead letter (package deadletter), and is acknowledged when the letter is stored. If the letter can't be
// stored, the partition stops taking and tries again until it can; nothing is dropped.
//
// # Failures
//
// What keeps the order of a key across failures:
//
//  1. While a key has a letter, later events of the key are parked behind it and not handled. A group whose events don't build on each other may do without
//     ([events.Group].Independent).
//  2. A letter is written under the lock of its subject's last sequence. Who is refused looks: either the letter is there already, or another member owns the partition, and
//     this one gives it up.
//  3. Work on letters (a retry that is due, a job's replay or discard, what waited behind a letter that is gone) runs in the lane of the key, as its events do.
//  4. Before a letter's event is handled, a claim says so. Whoever finds a claim without an outcome knows that its owner died with it; after three it is dead.
//  5. Nothing is parked while the group pauses, because what it needs is down or many keys fail for one cause (breaker.go).
//
// What kills the process is found by handling one event at a time (quarantine.go).
//
// # What a member may do
//
// A member needs no more than to publish these: $JS.API.CONSUMER.INFO, MSG.NEXT, RESET and UNPIN of its stream and consumers, $JS.ACK of them; dlq.<group>.>
// and dlqctl.*.<group>.>; and of the streams DLQ and DLQCTL, STREAM.INFO, STREAM.MSG.GET and DIRECT.GET, and STREAM.MSG.DELETE of DLQ. It needs no right to read its own
// stream's info, nor to make or delete anything else. For the bucket of the members it needs $KV.MEMBERS.<group>.>, and of
// its stream KV_MEMBERS the API's STREAM.INFO, CONSUMER.CREATE, CONSUMER.DELETE and $JS.FC; without them it reads all the same, and partitions are not shared evenly.
//
// # The parts
//
//   - [Publisher] publishes what needs no lock; package store appends what does. [Encoder] makes the messages of both.
//   - [Group] is a member of a consumer group, partition by partition (membership.go says which are its own, partition.go has the rule, lanes.go the executor,
//     pipeline.go the way of an event).
//   - drain.go and job.go work on letters, jobs.go finds the jobs.
//   - [Log] reads a whole stream in order, in batches, with a position that its handler stores.
//   - [Apply] makes a topology real.
package bus
