package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// message is a message as the stream holds it.
type message struct {
	Subject  string
	Sequence uint64
	Time     time.Time
	Header   nats.Header
	Data     []byte
}

// recorded decodes a message, into the newest version of its type.
func (s *Store) recorded(m message) (Recorded, error) {
	ev, err := s.registry.Decode(events.Header(m.Header), m.Data)
	if err != nil {
		return Recorded{}, fmt.Errorf("%s, sequence %d: %w", s.stream, m.Sequence, err)
	}
	return Recorded{Event: ev, Stream: s.stream, Subject: m.Subject, Sequence: m.Sequence, StoredAt: m.Time}, nil
}

// getRequest asks for one message: the one with a sequence, the next one of a subject from a sequence on, or the last one of a subject.
type getRequest struct {
	Sequence      uint64 `json:"seq,omitempty"`
	NextBySubject string `json:"next_by_subj,omitempty"`
	LastBySubject string `json:"last_by_subj,omitempty"`
	Batch         int    `json:"batch,omitempty"`
	MaxBytes      int    `json:"max_bytes,omitempty"`
}

// Last reads the last event of one exact subject. O(1). On a replicated stream it can be a little old. Wraps [ErrNotFound].
func (s *Store) Last(ctx context.Context, subject string) (Recorded, error) {
	if !exactSubject(subject) {
		return Recorded{}, fmt.Errorf("read last of %s: %w", subject, errNotExact)
	}
	r, err := s.one(ctx, getRequest{LastBySubject: subject})
	if err != nil {
		return Recorded{}, fmt.Errorf("read last of %s: %w", subject, err)
	}
	return r, nil
}

// Get reads the event with a stream sequence. O(1). Wraps [ErrNotFound].
func (s *Store) Get(ctx context.Context, sequence uint64) (Recorded, error) {
	if sequence == 0 {
		return Recorded{}, fmt.Errorf("read %s, sequence 0: %w", s.stream, ErrNotFound)
	}
	r, err := s.one(ctx, getRequest{Sequence: sequence})
	if err != nil {
		return Recorded{}, fmt.Errorf("read %s, sequence %d: %w", s.stream, sequence, err)
	}
	return r, nil
}

// LastSequence is the stream's last sequence, as its leader knows it.
func (s *Store) LastSequence(ctx context.Context) (uint64, error) {
	var info struct {
		State struct {
			LastSequence uint64 `json:"last_seq"`
		} `json:"state"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := s.ask(ctx, "STREAM.INFO."+s.stream, nil, &info); err != nil {
		return 0, fmt.Errorf("read last sequence of %s: %w", s.stream, err)
	}
	if info.Error != nil {
		return 0, fmt.Errorf("read last sequence of %s: %w", s.stream, info.Error)
	}
	return info.State.LastSequence, nil
}

// one reads one event from any replica. What a replica does not know may not have reached it yet: then the leader is asked.
func (s *Store) one(ctx context.Context, request getRequest) (Recorded, error) {
	m, err := s.oneMessage(ctx, request)
	if err != nil {
		return Recorded{}, err
	}
	return s.recorded(m)
}

func (s *Store) oneMessage(ctx context.Context, request getRequest) (message, error) {
	m, err := s.getFromAny(ctx, request)
	if notFound(err) && !s.OnOneServer(ctx) {
		m, err = s.getFromLeader(ctx, request)
	}
	if notFound(err) {
		return message{}, ErrNotFound
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

// OnOneServer reports whether the stream has one replica, so that no other knows more. Where that can't be found out, it says no, which costs a request.
func (s *Store) OnOneServer(ctx context.Context) bool {
	if known := s.single.Load(); known != nil && time.Now().Before(known.until) {
		return known.yes
	}
	var info struct {
		Config struct {
			Replicas int `json:"num_replicas"`
		} `json:"config"`
	}
	if err := s.ask(ctx, "STREAM.INFO."+s.stream, nil, &info); err != nil {
		return false
	}
	known := &oneServer{yes: info.Config.Replicas == 1, until: time.Now().Add(replicasKnown)}
	s.single.Store(known)
	return known.yes
}

// getFromAny reads one message through the direct API, which every replica answers. It can be a little behind. Wraps what [notFound] knows.
func (s *Store) getFromAny(ctx context.Context, request getRequest) (message, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return message{}, fmt.Errorf("read: %w", err)
	}
	reply, err := s.request(ctx, s.prefix+"DIRECT.GET."+s.stream, body)
	if err != nil {
		return message{}, err
	}
	return directMessage(reply)
}

// directMessage reads an answer of the direct API: the message itself, with its place in headers.
func directMessage(m *nats.Msg) (message, error) {
	if err := directStatus(m); err != nil {
		return message{}, err
	}
	sequence, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return message{}, fmt.Errorf("%w: header %s: %w", errBadAnswer, jetstream.SequenceHeader, err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return message{}, fmt.Errorf("%w: header %s: %w", errBadAnswer, jetstream.TimeStampHeaer, err)
	}
	return message{Subject: m.Header.Get(jetstream.SubjectHeader), Sequence: sequence, Time: at, Header: m.Header, Data: m.Data}, nil
}

const (
	headerStatus      = "Status"
	headerDescription = "Description"
	statusNotFound    = "404"
	statusEndOfBatch  = "204"
)

// directStatus is the error of an answer that is no message.
func directStatus(m *nats.Msg) error {
	status := m.Header.Get(headerStatus)
	if status == "" || len(m.Data) > 0 || m.Header.Get(jetstream.SequenceHeader) != "" {
		return nil
	}
	if status == statusNotFound {
		return ErrNotFound
	}
	return fmt.Errorf("%w: status %s %s", errBadAnswer, status, m.Header.Get(headerDescription))
}

// getFromLeader reads one message through the stream's leader, which knows all that is acknowledged. Wraps what [notFound] knows.
func (s *Store) getFromLeader(ctx context.Context, request getRequest) (message, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return message{}, fmt.Errorf("read from leader: %w", err)
	}
	var reply struct {
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := s.ask(ctx, "STREAM.MSG.GET."+s.stream, body, &reply); err != nil {
		return message{}, err
	}
	if reply.Error != nil {
		return message{}, reply.Error
	}
	if reply.Message == nil {
		return message{}, fmt.Errorf("%w: no message and no error", errBadAnswer)
	}
	m := message{Subject: reply.Message.Subject, Sequence: reply.Message.Sequence, Time: reply.Message.Time, Data: reply.Message.Data}
	if len(reply.Message.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(reply.Message.Header); err != nil {
			return message{}, fmt.Errorf("%w: headers: %w", errBadAnswer, err)
		}
	}
	return m, nil
}

// ask sends a request to the JetStream API and reads its JSON answer.
func (s *Store) ask(ctx context.Context, subject string, body []byte, into any) error {
	reply, err := s.request(ctx, s.prefix+subject, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, into); err != nil {
		return fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return nil
}

// request asks again while nobody answers, as in an election: reading twice harms nobody.
func (s *Store) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	t := tries{pace: s.pace}
	for t.next(ctx) {
		reply, err := s.requestOnce(ctx, subject, body)
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

func (s *Store) requestOnce(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, done, err := s.patience(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	reply, err := s.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Data: body})
	if err != nil {
		return nil, cause(ctx, err)
	}
	return reply, nil
}
