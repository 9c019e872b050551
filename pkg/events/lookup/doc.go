// Package lookup reads single messages of a stream, from whom the caller chooses. The client library's own calls do not let one choose: where a stream allows direct reads, as all of ours do, they
// ask any replica, and a replica may be behind what was acknowledged.
//
// # Whom to ask
//
// [Stream.FromLeader] where the answer decides something, and nothing else guards it: what stands behind a lock, whether one's own write was stored, that there is nothing. Whatever
// was acknowledged before the question is in the answer. The question goes through the broker's queue of API requests, behind what others ask there.
//
// [Stream.FromAny] where something else guards: a lock that refuses what was decided on old data, a message that is known to be there and never changes, or a stream with one replica, which is its
// leader. Any replica answers, also while there is no leader, and not behind that queue. What it finds was stored. What it does not find may be on its way to that replica: where there are
// several, ask the leader before you believe in "there is none".
//
// # What holds of both
//
//   - "There is none" is [jetstream.ErrMsgNotFound], also of a message that was deleted or has expired. No other answer is.
//   - An answer that can't be read wraps [ErrBadAnswer], and says nothing about the stream. What the broker refuses is a [jetstream.APIError].
//   - One call is one request, which [Of] sends once. Who goes on while nobody answers, as in an election, sets [Stream.Ask]: reading twice harms nobody.
//   - Subject, sequence and time are the broker's, whatever the message's headers say. Of an answer of FromAny the headers are those that were published and the broker's own behind them.
//   - The prefix or domain that the client was made for is kept.
//
// A NATS user needs the right to publish to STREAM.MSG.GET.<stream> of the API for the leader, and to DIRECT.GET.<stream> for any replica.
package lookup
