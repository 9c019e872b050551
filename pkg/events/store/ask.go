package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// asker asks about one stream: an event store's, or the one that a bucket is made of. Of its messages package lookup reads; asker asks again while nobody answers.
type asker struct {
	nc       *nats.Conn
	stream   string
	prefix   string // of the JetStream API, "$JS.API." by default
	messages lookup.Stream
	pace     pace
	single   atomic.Pointer[oneServer]
}

func newAsker(js jetstream.JetStream, stream string) *asker {
	a := &asker{nc: js.Conn(), stream: stream, prefix: lookup.APIPrefix(js), messages: lookup.Of(js, stream), pace: defaultPace()}
	a.messages.Ask = a.request
	return a
}

// oneMessage reads one message from any replica. What a replica does not know may not have reached it yet: then the leader is asked. Wraps [ErrNotFound].
func (a *asker) oneMessage(ctx context.Context, request lookup.Request) (jetstream.RawStreamMsg, error) {
	m, err := a.messages.FromAny(ctx, request)
	if notFound(err) && !a.onOneServer(ctx) {
		m, err = a.messages.FromLeader(ctx, request)
	}
	if notFound(err) {
		return jetstream.RawStreamMsg{}, ErrNotFound
	}
	return m, err
}

// oneServer is what was last found out about the stream's replicas.
type oneServer struct {
	yes   bool
	until time.Time
}

// replicasKnown is how long the number of replicas is taken as known: an operator may raise it while we run.
const replicasKnown = 10 * time.Second

// onOneServer reports whether the stream has one replica, so that no other knows more. Where that can't be found out, it says no, which costs a request.
func (a *asker) onOneServer(ctx context.Context) bool {
	if known := a.single.Load(); known != nil && time.Now().Before(known.until) {
		return known.yes
	}
	var info struct {
		Config struct {
			Replicas int `json:"num_replicas"`
		} `json:"config"`
	}
	if err := a.ask(ctx, "STREAM.INFO."+a.stream, nil, &info); err != nil {
		return false
	}
	known := &oneServer{yes: info.Config.Replicas == 1, until: time.Now().Add(replicasKnown)}
	a.single.Store(known)
	return known.yes
}

// ask sends a request to the JetStream API and reads its JSON answer.
func (a *asker) ask(ctx context.Context, subject string, body []byte, into any) error {
	reply, err := a.request(ctx, a.prefix+subject, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, into); err != nil {
		return fmt.Errorf("%w: %w", lookup.ErrBadAnswer, err)
	}
	return nil
}

// request asks again while nobody answers, as in an election: reading twice harms nobody.
func (a *asker) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	t := tries{pace: a.pace}
	for t.next(ctx) {
		reply, err := a.requestOnce(ctx, subject, body)
		if err == nil {
			return reply, nil
		}
		o := outcomeOf(err)
		t.last = o
		t.note(err)
		if o == failed {
			break
		}
	}
	return nil, fmt.Errorf("ask the broker, %d tries: %w", t.made, t.err)
}

func (a *asker) requestOnce(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, done, err := a.patience(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	reply, err := a.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, cause(ctx, err)
	}
	return reply, nil
}
