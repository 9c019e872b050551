// Package events is the contract of Tidemark: what an event is, which events there are, and where they are kept. Services share this package and
// nothing else. It does not import NATS; package bus publishes and reads, package store keeps aggregates.
//
//   - event.go: [Event], a CloudEvents 1.0 event, and ids.
//   - codec.go, structured.go: [Encode] and [Decode] for binary mode over NATS headers, [EncodeJSON] and [DecodeJSON] for structured mode.
//   - catalogue.go: the event types and their payloads. schemas/ holds a JSON Schema for each; [Registry] checks payloads with them.
//   - compat.go: [CompatibleSchema] says how a changed schema breaks with the published one.
//   - channels.go: [Channel], what is published under which subjects, and what each group handles.
//   - upcast.go: [Upcast], by which readers see the newest version of an event that was stored in an old one.
//   - topology.go: every stream, consumer group and bucket, and [Subjects], which alone spells subjects.
//   - token.go: [Token] makes one safe subject token of any text; [Partition] says where a key belongs.
//   - money.go: [Minor], money as an integer.
//
// What holds here:
//
//   - What was stored once is readable for ever: testdata/golden holds events of every type and version.
//   - Whatever Encode writes, Decode reads back the same.
//   - One key has one token, and one token has one partition, the same that nats-server computes.
//   - An event type has one meaning. A new optional field is no new version; a new meaning is a new type.
package events
