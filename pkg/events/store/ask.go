package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// asker reads single messages of one stream: an event store's, or the one that a bucket is made of. The client's own calls ask any replica, which may be behind what was acknowledged; here the caller chooses.
type asker struct {
	nc     *nats.Conn
	stream string
	prefix string // of the JetStream API, "$JS.API." by default
	pace   pace
	single atomic.Pointer[oneServer]
}

func newAsker(js jetstream.JetStream, stream string) *asker {
	return &asker{nc: js.Conn(), stream: stream, prefix: apiPrefix(js), pace: defaultPace()}
}

// message is a message as the stream holds it.
type message struct {
	Subject  string
	Sequence uint64
	Time     time.Time
	Header   nats.Header
	Data     []byte
}

// getRequest asks for one message: the one with a sequence, the next one of a subject from a sequence on, or the last one of a subject.
type getRequest struct {
	Sequence      uint64 `json:"seq,omitempty"`
	NextBySubject string `json:"next_by_subj,omitempty"`
	LastBySubject string `json:"last_by_subj,omitempty"`
	Batch         int    `json:"batch,omitempty"`
	MaxBytes      int    `json:"max_bytes,omitempty"`
}

// oneMessage reads one message from any replica. What a replica does not know may not have reached it yet: then the leader is asked. Wraps [ErrNotFound].
func (a *asker) oneMessage(ctx context.Context, request getRequest) (message, error) {
	m, err := a.getFromAny(ctx, request)
	if notFound(err) && !a.onOneServer(ctx) {
		m, err = a.getFromLeader(ctx, request)
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

// getFromAny reads one message through the direct API, which every replica answers. It can be a little behind. Wraps what [notFound] knows.
func (a *asker) getFromAny(ctx context.Context, request getRequest) (message, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return message{}, fmt.Errorf("read: %w", err)
	}
	reply, err := a.request(ctx, a.prefix+"DIRECT.GET."+a.stream, body)
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
func (a *asker) getFromLeader(ctx context.Context, request getRequest) (message, error) {
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
	if err := a.ask(ctx, "STREAM.MSG.GET."+a.stream, body, &reply); err != nil {
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
func (a *asker) ask(ctx context.Context, subject string, body []byte, into any) error {
	reply, err := a.request(ctx, a.prefix+subject, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, into); err != nil {
		return fmt.Errorf("%w: %w", errBadAnswer, err)
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
	reply, err := a.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Data: body})
	if err != nil {
		return nil, cause(ctx, err)
	}
	return reply, nil
}
