package load

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/pkg/events"
)

// producer is a client of NATS that knows nothing of our libraries: it writes headers and bytes.
type producer struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects events.Subjects
}

// newProducer connects to the broker that is named, or to that of the system that the API belongs to.
func newProducer(ctx context.Context, api *client.Client, cfg Config, denied func(error)) (*producer, error) {
	where := client.System{NATSURL: cfg.NATS}
	if cfg.NATS == "" {
		var err error
		if where, err = api.System(ctx); err != nil {
			return nil, fmt.Errorf("ask the API where NATS is (or say it with --nats): %w", err)
		}
	}
	access := cfg.Access.Else(where.Access()).As(events.UserProducer) // whoever else's seed it is, the producer's lies beside it
	nc, err := natsconn.Connect(natsconn.Config{URL: where.NATSURL, Name: "load", User: events.UserProducer, Access: access, Denied: denied})
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	topology := events.DefaultTopology(0)
	return &producer{nc: nc, js: js, subjects: topology.Subjects()}, nil
}

// click is a message of a click. msgID is what the broker knows a repeated one by.
func (p *producer) click(user, id string, at time.Time, msgID string, payload []byte) *nats.Msg {
	return &nats.Msg{
		Subject: p.subjects.Click(user),
		Header: nats.Header{
			"ce-specversion": {"1.0"}, "ce-id": {id}, "ce-source": {loadSource}, "ce-type": {events.TypePageClicked}, "ce-subject": {user},
			"ce-time": {at.UTC().Format(time.RFC3339Nano)}, "content-type": {"application/json"}, jetstream.MsgIDHeader: {msgID},
		},
		Data: payload,
	}
}

const storeRetry = 250 * time.Millisecond

// store stores one message, and tries until it is stored.
func (s *sender) store(ctx context.Context, msg *nats.Msg) error {
	for {
		_, err := s.producer.js.PublishMsg(ctx, msg)
		if err == nil {
			return nil
		}
		s.report.retry(fmt.Errorf("store a click: %w", err), storeRetry)
		if err := sleep(ctx, storeRetry); err != nil {
			return err
		}
	}
}

// storeAgain stores a click that goes through the API too once more, past it. The event is the same: source, id, time, payload. The broker does not see it, since it
// compares message ids, and this one has another: that is what a producer does that sends again after an hour, or that sets none.
func (s *sender) storeAgain(ctx context.Context, click *events.Event) error {
	if err := s.store(ctx, s.producer.click(click.Subject, click.ID, click.Time, click.ID+"-again", click.Data)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.ClicksTwice++
	return nil
}
