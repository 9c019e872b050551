package bus

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
)

// Delivery is one event as a consumer group hands it to its handler.
type Delivery struct {
	Event events.Event // in the newest version of its type; a dead letter of it holds what was stored
	// Err says why the event can't be read; Event then holds what could be. A [Group] parks such an event by itself. A [Log] parks it and hands
	// it on in its place, so that the reader's position can pass it.
	Err error
	// Checked is what the Check of a [Log] has found in the event.
	Checked any

	Stream    string
	Subject   string
	Sequence  uint64    // in Stream
	StoredAt  time.Time // the server's store time
	Partition int
	Attempt   int // 1 for the first call of the handler, within this process

	// Repeated is true where an earlier owner of the partition, or this one before a reset, was sent the event already, and so may have handled it.
	// false is no proof of the contrary: when two owners die one soon after the other, the second one's successor no longer sees what the first
	// was sent. What a handler writes must be fenced by a lock in any case; Repeated only says where to look first.
	Repeated bool

	// Origin is where the event was stored first, for streams that copy others; else Stream and Sequence.
	OriginStream   string
	OriginSequence uint64

	Replay *Replay // set where the event comes from its dead letter, by a retry of the group's schedule or by a job
}

// Replay says of which dead letter an event comes.
type Replay struct {
	Letter string // its id
	Depth  int    // replays by jobs that failed before
	Job    string // the job that asked for it; empty for a retry, and for an event that waited behind its predecessor

	failed string // traceparent of the attempt that failed
}

// Handler handles one event. nil means done: the event is acknowledged. See package fail for what errors say. Its context ends with
// the time limit, and when a stopping member has no more time; it carries the trace of the event.
type Handler func(ctx context.Context, d Delivery) error

// task is one delivery on its way through the executor.
type task struct {
	delivery Delivery
	msg      *nats.Msg
	seq      sequences
	key      string
	work     func() // set instead of all else: work on the key's letters
	solo     bool   // to be handled alone: it may be what killed an owner
	done     bool   // guarded by the window

	arrived   time.Time       // for its span; zero where there is none
	scheduled bool            // the broker published it, much later than its producer
	traced    context.Context // of the last attempt's span; nil where there is none

	called bool
	first  contexts // of the first call: allocations of their own would be two more an event
}

// contexts is the memory of those of one call of a handler.
type contexts struct {
	carried carried
	limited callContext
}

// contexts returns some that no call has had: a handler may keep its own.
func (t *task) contexts() *contexts {
	if t.called {
		return new(contexts)
	}
	t.called = true
	return &t.first
}

const sourceHeader = "Nats-Stream-Source"

// newTask decodes a message, into the newest version of its type. Decoding comes before the queue, since the event's key says which queue.
func newTask(registry *events.Registry, m *nats.Msg, seq sequences, stream string, partition int) *task {
	t := &task{msg: m, seq: seq}
	d := &t.delivery
	d.Err = registry.ReadInto(&d.Event, events.Header(m.Header), m.Data)
	d.Stream, d.Subject, d.Sequence, d.StoredAt, d.Partition = stream, m.Subject, seq.stream, seq.stored, partition
	d.OriginStream, d.OriginSequence = stream, seq.stream
	if source := m.Header[sourceHeader]; len(source) > 0 {
		d.OriginStream, d.OriginSequence = origin(source[0], stream, seq.stream)
	}
	if t.key = d.Event.Key(); d.Err != nil || t.key == "" {
		t.key = keyOfSubject(m.Subject)
	}
	return t
}

// origin reads "<stream> <sequence> …", which the server writes on what it copies from another stream.
func origin(source, stream string, seq uint64) (string, uint64) {
	name, rest, _ := strings.Cut(source, " ")
	number, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return stream, seq
	}
	return name, n
}

// keyOfSubject is the key of an event that can't be read: the subject's last token, decoded where that goes.
func keyOfSubject(subject string) string {
	token := subject[strings.LastIndexByte(subject, '.')+1:]
	if key, err := events.Untoken(token); err == nil {
		return key
	}
	return token
}
