package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// Delivery is one event as a consumer group hands it to its handler.
type Delivery struct {
	Event events.Event

	Stream    string
	Subject   string
	Sequence  uint64    // in Stream
	StoredAt  time.Time // the server's store time
	Partition int
	Attempt   int // 1 for the first call of the handler, within this process

	// Repeated is true where an earlier owner of the partition, or this one before a reset, may have handled the event already. It is never
	// false for an event that was handled before and whose acknowledgement was lost.
	Repeated bool

	// Origin is where the event was stored first, for streams that copy others; else Stream and Sequence.
	OriginStream   string
	OriginSequence uint64
}

// Handler handles one event. nil means done: the event is acknowledged. See package fail for what errors say.
type Handler func(ctx context.Context, d Delivery) error

// GroupConfig configures one member of a consumer group.
type GroupConfig struct {
	Group   events.Group    // from the topology
	Handler Handler         // required
	Lanes   int             // handlers that run at once in one partition; default 64
	Ahead   int             // how far past the ack floor a partition reads; what a crash repeats at most; default 1,024
	Timeout time.Duration   // one call of the handler; default 30 s
	Retries []time.Duration // waits before the second, third… try, each with jitter; default 200 ms, 1 s, 5 s
}

// Deps are what the bus needs.
type Deps struct {
	JS        jetstream.JetStream // required
	Encoder   *Encoder            // required
	Subjects  events.Subjects
	Telemetry Telemetry
}

// Group is one member of a consumer group.
type Group struct{}

// NewGroup checks the configuration; Run reads.
func NewGroup(cfg GroupConfig, deps Deps) (*Group, error) { return nil, errors.New("not written yet") }

// Ready is closed when every partition is read, by this member or by another.
func (g *Group) Ready() <-chan struct{} { return nil }

// Run reads until ctx ends, then finishes what is in flight, and returns nil after a clean stop.
func (g *Group) Run(ctx context.Context) error { return nil }

// BatchHandler handles events in the order of the log. When it returns nil, all of them are acknowledged.
type BatchHandler func(ctx context.Context, ds []Delivery) error

// LogConfig configures a reader of a whole stream in its order, as analytics reads TIMELINE: one partition, one goroutine, and a
// position of its own that is stored with what was computed.
type LogConfig struct {
	Group    events.Group // one partition
	Handler  BatchHandler
	MaxBatch int // most events in one call; default 1,000
	// Position returns the last sequence whose effect is stored; reading starts behind it. It is called at every take-over and reset.
	Position func(ctx context.Context) (uint64, error)
	// Undecodable is told of an event that can't be read, after it was parked as a dead letter, at its place in the order.
	Undecodable func(ctx context.Context, sequence uint64)
}

// Log is one member that reads a stream in order.
type Log struct{}

// NewLog checks the configuration; Run reads.
func NewLog(cfg LogConfig, deps Deps) (*Log, error) { return nil, errors.New("not written yet") }

// Ready is closed when the stream is read, by this member or by another.
func (l *Log) Ready() <-chan struct{} { return nil }

// Run reads until ctx ends.
func (l *Log) Run(ctx context.Context) error { return nil }

// Ack is what the broker says of a stored event.
type Ack struct {
	Stream    string
	Sequence  uint64
	Duplicate bool
}

// Publisher publishes events that need no lock.
type Publisher struct{}

// NewPublisher returns a publisher.
func NewPublisher(deps Deps) *Publisher { return &Publisher{} }

// Publish stores the event and waits for the broker's word.
func (p *Publisher) Publish(ctx context.Context, subject string, ev events.Event, opts ...jetstream.PublishOpt) (Ack, error) {
	return Ack{}, errors.New("not written yet")
}
