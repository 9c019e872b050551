// Package backup takes a backup of all streams as they were at one moment, and makes them anew from it. The files are those of NATS's own backup.
//
// NATS takes a snapshot of one stream, and of the offsets of its consumers, at a time. The streams here are about each other: STOCK answers ORDERS by its sequences, ORDERS answers STOCK, TIMELINE
// copies ORDERS, a group's offset in ORDERS says that STOCK has the answers. So the snapshots must be of one moment.
//
// # Taking
//
//	hold     all consumer groups are paused; what they have in hand is waited for; where they stand is noted
//	begin    the snapshots begin, one after the other; the broker has fixed what is in each when it answers
//	let go   the groups go on; analytics waits until WINDOWS is read, where it replaces what it wrote
//	finish   the broker sends the rest
//
// While the groups stand still, nothing that is stored in one stream has an effect in another, so it does not matter that the snapshots begin some milliseconds apart. What still comes, comes from outside (orders, clicks,
// receipts: one stream each, but for an order's address and deadline, which are stored before it and read after it), or from a dead letter that is tried again, whose event is older than the pause. That its letter,
// its state and its effect may be of different moments is what every crash leaves, too: DLQ comes first, then DLQCTL, then the logs.
//
// # Restoring
//
// Everything that can be wrong is looked at before anything is changed. Then each stream is made of its archive, marked with [bus.MetadataRestore]; groups are moved back to where they stood, where the snapshot has them further;
// open orders without a deadline get one; and when all is there, the marks are taken off. A service does not begin on a stream that is marked.
//
// Two things of the broker matter. A stream that copies others (TIMELINE) notes which incarnation of its origin a message came from, and would copy a restored origin from its first message once more: archive.go takes
// the note out. And a snapshot leaves out what is replaced or deleted before its turn comes: a contact that is written again, a timer that is due. Streams where that would matter are read again (order.go), and deadlines are repaired (deadlines.go).
//
// docs/adr/0022 has the alternatives and docs/how-to/backup.md the operator's side.
package backup
