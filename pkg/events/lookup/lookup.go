package lookup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrBadAnswer: the broker said something that can't be understood, so nothing is known.
var ErrBadAnswer = errors.New("answer of the broker can't be read")

// Stream is where to read. [Of] makes it.
type Stream struct {
	// Ask sends a request and waits for the answer.
	Ask func(ctx context.Context, subject string, body []byte) (*nats.Msg, error)

	name, prefix string
}

// Of returns a stream that is asked once a call, for as long as the call's context lasts.
func Of(js jetstream.JetStream, stream string) Stream {
	return Stream{Ask: js.Conn().RequestWithContext, name: stream, prefix: APIPrefix(js)}
}

// APIPrefix is where the JetStream API answers, with the dot at its end: apart from the default, a domain or an import may have moved it.
func APIPrefix(js jetstream.JetStream) string {
	o := js.Options()
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// Request selects one message: the one with a sequence, the next one of a subject from a sequence or a time on, or the last one of a subject. The subject may have wildcards.
type Request struct {
	Sequence      uint64    `json:"seq,omitempty"`
	NextBySubject string    `json:"next_by_subj,omitempty"`
	LastBySubject string    `json:"last_by_subj,omitempty"`
	StartTime     time.Time `json:"start_time,omitzero"`
}

// FromLeader reads one message through the stream's leader, which knows all that is acknowledged.
func (s Stream) FromLeader(ctx context.Context, request Request) (jetstream.RawStreamMsg, error) {
	reply, err := s.ask(ctx, "STREAM.MSG.GET.", request)
	if err != nil {
		return jetstream.RawStreamMsg{}, err
	}
	return leaders(reply)
}

// FromAny reads one message through the direct API, which every replica answers. It can be a little behind.
func (s Stream) FromAny(ctx context.Context, request Request) (jetstream.RawStreamMsg, error) {
	reply, err := s.ask(ctx, "DIRECT.GET.", request)
	if err != nil {
		return jetstream.RawStreamMsg{}, err
	}
	return Direct(reply)
}

func (s Stream) ask(ctx context.Context, what string, request Request) (*nats.Msg, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", what, s.name, err)
	}
	reply, err := s.Ask(ctx, s.prefix+what+s.name, body)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", what, s.name, err)
	}
	return reply, nil
}

// leaders reads an answer of the leader: JSON around the message.
func leaders(reply *nats.Msg) (jetstream.RawStreamMsg, error) {
	var answer struct {
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	err := json.Unmarshal(reply.Data, &answer)
	switch {
	case err != nil:
		return jetstream.RawStreamMsg{}, fmt.Errorf("%w: %w", ErrBadAnswer, err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return jetstream.RawStreamMsg{}, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return jetstream.RawStreamMsg{}, answer.Error
	case answer.Message == nil:
		return jetstream.RawStreamMsg{}, fmt.Errorf("%w: no message and no error", ErrBadAnswer)
	}
	m := jetstream.RawStreamMsg{Subject: answer.Message.Subject, Sequence: answer.Message.Sequence, Data: answer.Message.Data, Time: answer.Message.Time}
	if len(answer.Message.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return jetstream.RawStreamMsg{}, fmt.Errorf("%w: headers: %w", ErrBadAnswer, err)
		}
	}
	return m, nil
}

const (
	headerStatus      = "Status"
	headerDescription = "Description"
	statusNotFound    = "404"
)

// Direct reads one answer of the direct API: the message itself, with its place in headers. It is for who asks that API for several at once.
func Direct(reply *nats.Msg) (jetstream.RawStreamMsg, error) {
	if err := status(reply); err != nil {
		return jetstream.RawStreamMsg{}, err
	}
	sequence, err := strconv.ParseUint(Header(reply, jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return jetstream.RawStreamMsg{}, fmt.Errorf("%w: header %s: %w", ErrBadAnswer, jetstream.SequenceHeader, err)
	}
	at, err := time.Parse(time.RFC3339Nano, Header(reply, jetstream.TimeStampHeaer))
	if err != nil {
		return jetstream.RawStreamMsg{}, fmt.Errorf("%w: header %s: %w", ErrBadAnswer, jetstream.TimeStampHeaer, err)
	}
	return jetstream.RawStreamMsg{Subject: Header(reply, jetstream.SubjectHeader), Sequence: sequence, Header: reply.Header, Data: reply.Data, Time: at}, nil
}

// status is the error of an answer that is no message.
func status(reply *nats.Msg) error {
	code := reply.Header.Get(headerStatus)
	if code == "" || len(reply.Data) > 0 || reply.Header.Get(jetstream.SequenceHeader) != "" {
		return nil
	}
	if code == statusNotFound {
		return jetstream.ErrMsgNotFound
	}
	return fmt.Errorf("%w: status %s %s", ErrBadAnswer, code, reply.Header.Get(headerDescription))
}

// Header is what the broker says in a header of its own in an answer of the direct API. It comes behind what the publisher may have written into one of the same name.
func Header(reply *nats.Msg, name string) string {
	if values := reply.Header[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}
