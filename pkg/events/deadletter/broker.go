package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// getRequest asks for one message: the one with a sequence, the next one of a subject from a sequence on, or the last one of a subject.
type getRequest struct {
	Sequence      uint64 `json:"seq,omitempty"`
	NextBySubject string `json:"next_by_subj,omitempty"`
	LastBySubject string `json:"last_by_subj,omitempty"`
}

// Codes of the JetStream API.
const (
	codeWrongSequence         jetstream.ErrorCode = 10071
	codeWrongSequenceConstant jetstream.ErrorCode = 10164 // the same on a replicated stream while another write is in flight
	codeMessageNotFound       jetstream.ErrorCode = 10037
	codeNoMessageFound        jetstream.ErrorCode = 10057 // a delete of what is gone
	codeClusterUnavailable    jetstream.ErrorCode = 10008
	codeNotLeader             jetstream.ErrorCode = 10009
)

func hasCode(err error, codes ...jetstream.ErrorCode) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && slices.Contains(codes, api.ErrorCode)
}

func wrongSequence(err error) bool {
	return hasCode(err, codeWrongSequence, codeWrongSequenceConstant)
}

// passes reports whether a later try may end differently.
func passes(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || hasCode(err, codeClusterUnavailable, codeNotLeader)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ask sends a request to the JetStream API and reads its JSON answer.
func (s *Store) ask(ctx context.Context, name string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	reply, err := s.request(ctx, name, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(reply.Data, answer)
}

// request asks again while nobody answers, as in an election.
func (s *Store) request(ctx context.Context, name string, body []byte) (*nats.Msg, error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		reply, err := s.js.Conn().RequestWithContext(try, s.prefix()+name, body)
		cancel()
		if err == nil {
			return reply, nil
		}
		if ctx.Err() != nil || !passes(err) {
			return nil, err
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func (s *Store) prefix() string {
	o := s.js.Options()
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// fromLeader reads one message through the stream's leader, which knows all that is acknowledged: other replicas may be behind. Where there are none, it is asked through the direct API, which
// does not queue behind everything else that is asked of the broker. Wraps [ErrNotFound].
func (s *Store) fromLeader(ctx context.Context, stream string, request getRequest) (*jetstream.RawStreamMsg, error) {
	if s.direct.Load() && (stream == events.StreamDLQ || stream == events.StreamDLQCtl) {
		return s.fromOnly(ctx, stream, request)
	}
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
	if err := s.ask(ctx, "STREAM.MSG.GET."+stream, request, &answer); err != nil {
		return nil, err
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == codeMessageNotFound:
		return nil, ErrNotFound
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, fmt.Errorf("%s: an answer without a message", stream)
	}
	m := &jetstream.RawStreamMsg{Subject: answer.Message.Subject, Sequence: answer.Message.Sequence, Data: answer.Message.Data, Time: answer.Message.Time}
	if len(answer.Message.Header) > 0 {
		header, err := nats.DecodeHeadersMsg(answer.Message.Header)
		if err != nil {
			return nil, fmt.Errorf("%s, sequence %d: headers: %w", stream, m.Sequence, err)
		}
		m.Header = header
	}
	return m, nil
}

// fromOnly reads one message of a stream without replicas.
func (s *Store) fromOnly(ctx context.Context, stream string, request getRequest) (*jetstream.RawStreamMsg, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	m, err := s.request(ctx, "DIRECT.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	get := func(name string) string {
		if values := m.Header[name]; len(values) > 0 {
			return values[len(values)-1] // the broker's own comes last
		}
		return ""
	}
	if status := get("Status"); len(m.Data) == 0 && status != "" && get(jetstream.SequenceHeader) == "" {
		if status == "404" {
			return nil, ErrNotFound
		}
		return nil, fmt.Errorf("%s: status %s %s", stream, status, get("Description"))
	}
	sequence, err := strconv.ParseUint(get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s: an answer without a sequence: %w", stream, err)
	}
	at, err := time.Parse(time.RFC3339Nano, get(jetstream.TimeStampHeaer))
	if err != nil {
		return nil, fmt.Errorf("%s, sequence %d: %w", stream, sequence, err)
	}
	return &jetstream.RawStreamMsg{Subject: get(jetstream.SubjectHeader), Sequence: sequence, Header: m.Header, Data: m.Data, Time: at}, nil
}

// delete removes one message of DLQ. Its bytes are overwritten later, with the block that holds them.
func (s *Store) delete(ctx context.Context, sequence uint64) error {
	request := struct {
		Sequence uint64 `json:"seq"`
		NoErase  bool   `json:"no_erase"`
	}{sequence, true}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := s.ask(ctx, "STREAM.MSG.DELETE."+events.StreamDLQ, request, &answer); err != nil {
		return fmt.Errorf("remove dead letter at %d: %w", sequence, err)
	}
	if answer.Error != nil && answer.Error.ErrorCode != codeMessageNotFound && answer.Error.ErrorCode != codeNoMessageFound {
		return fmt.Errorf("remove dead letter at %d: %w", sequence, answer.Error)
	}
	return nil
}
