package natsconn

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// A connection can be of no use in two ways that nobody is told of, and both are looked for.
//
// Packets to the server are lost, or its machine stopped: nothing is refused, nothing is answered. Pings find it, six to nine seconds after the last answer.
//
// The server is there and answers pings, but can't reach the other servers of its cluster, so nothing that needs a majority is answered through it, while a server next to it would
// answer at once. The client library stays with it for ever; keepUseful does not.
const (
	pingEvery = 3 * time.Second
	pingsLost = 2

	askEvery = 2 * time.Second
	askLimit = 2 * time.Second
	// A new leader of a stream takes the broker up to 9 seconds. Who leaves sooner leaves servers that are well.
	patience = 10 * time.Second
)

// errNoLeader: a server that has lost its cluster says what it knew last, and that it knows no leader.
var errNoLeader = errors.New("no leader")

// keepUseful moves the connection to another server, where it knows one, when this one has been without the cluster for 10 seconds. It asks every two seconds, in the background, until the
// connection is closed.
func keepUseful(nc *nats.Conn, log *slog.Logger) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s := &stay{
		log: log, away: nc.ForceReconnect, url: nc.ConnectedUrlRedacted, others: func() bool { return len(nc.Servers()) > 1 },
		ask: func(ctx context.Context) error {
			if !nc.IsConnected() {
				return nil // the client library is looking for a server
			}
			return led(ctx, js)
		},
	}
	closed := nc.StatusChanged(nats.CLOSED)
	go s.run(closed)
	return nil
}

// led asks for a bucket's state, which every service may read: it is replicated like all that counts.
func led(ctx context.Context, js jetstream.JetStream) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	kv, err := js.KeyValue(ctx, events.BucketMembers)
	if err != nil {
		return err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return err
	}
	if s, ok := status.(*jetstream.KeyValueBucketStatus); ok && s.StreamInfo().Cluster != nil && s.StreamInfo().Cluster.Leader == "" {
		return errNoLeader
	}
	return nil
}

// stay is the watch over one connection.
type stay struct {
	log    *slog.Logger
	ask    func(context.Context) error
	away   func() error
	others func() bool
	url    func() string

	since time.Time // when the answers ended; zero: they come
}

func (s *stay) run(closed <-chan nats.Status) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	answers := make(chan error, 1)
	for {
		select {
		case <-closed:
			return
		case <-tick.C:
		}
		go func() { answers <- s.ask(ctx) }()
		select {
		case <-closed:
			return
		case err := <-answers:
			s.note(err, time.Now())
		}
	}
}

// note judges one answer.
func (s *stay) note(err error, now time.Time) {
	switch {
	case err == nil || !unavailable(err):
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = now
	case now.Sub(s.since) >= patience && s.others():
		s.since = time.Time{}
		s.log.Warn("the NATS server does not reach its cluster: connecting to another one", "url", s.url(), "error", err)
		if err := s.away(); err != nil {
			s.log.Debug("not connected anew", "error", err) // closed meanwhile
		}
	}
}
