package store

import (
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Recorded is an event as it is stored, in the newest version of its type: [events.Registry] upcasts what is older.
type Recorded struct {
	events.Event
	Stream   string
	Subject  string
	Sequence uint64
	StoredAt time.Time // the server's clock; zero in what Execute has just appended
}

// Write is one event and the subject that it goes to.
type Write struct {
	Subject string
	Event   events.Event
}

// Store reads and appends one stream. It is safe for use by many goroutines and holds nothing that must be closed.
type Store struct {
	*asker
	js       jetstream.JetStream
	encoder  *bus.Encoder
	registry *events.Registry // of the encoder
	log      *slog.Logger
	spans    bus.PublishSpans
	metrics  metrics
}

// pace is how long the store waits, and how often it tries. Tests shorten it.
type pace struct {
	tries    int           // of one append or read
	answer   time.Duration // how long one try waits for the broker
	recover  time.Duration // first wait after a try that the broker did not answer; doubled each time
	refused  time.Duration // first wait where the broker refused and the reason can't be read yet; doubled each time
	refusals int           // how many of those in all, where no try can have been stored
	longest  time.Duration // no wait is longer
	decide   int           // how often Execute decides again after a conflict
	conflict time.Duration // first wait after a conflict, with jitter; doubled each time
}

func defaultPace() pace {
	return pace{
		tries: 8, answer: 2 * time.Second, recover: 50 * time.Millisecond, refused: 2 * time.Millisecond, refusals: 4, longest: time.Second,
		decide: 5, conflict: 5 * time.Millisecond,
	}
}

// New returns the store of one stream. The encoder's catalogue checks what is appended, and upcasts what is read.
func New(js jetstream.JetStream, stream string, encoder *bus.Encoder, telemetry bus.Telemetry) *Store {
	telemetry = telemetry.OrNothing()
	return &Store{
		asker: newAsker(js, stream), js: js, encoder: encoder, registry: encoder.Registry(),
		log: telemetry.Logger, spans: bus.NewPublishSpans(telemetry), metrics: newMetrics(telemetry, stream),
	}
}
