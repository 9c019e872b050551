package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// Codes of the JetStream API.
const (
	codeWrongSequence         jetstream.ErrorCode = 10071
	codeWrongSequenceConstant jetstream.ErrorCode = 10164 // the same on a replicated stream while another write is in flight
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
	reply, err := s.request(ctx, lookup.APIPrefix(s.js)+name, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(reply.Data, answer)
}

// request asks again while nobody answers, as in an election.
func (s *Store) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		reply, err := s.js.Conn().RequestWithContext(try, subject, body)
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

// fromLeader reads one message through the stream's leader, which knows all that is acknowledged: other replicas may be behind. Where there are none, it is asked through the direct API, which
// does not queue behind everything else that is asked of the broker. Wraps [ErrNotFound].
func (s *Store) fromLeader(ctx context.Context, stream string, request lookup.Request) (*jetstream.RawStreamMsg, error) {
	messages := lookup.Of(s.js, stream)
	messages.Ask = s.request
	read := messages.FromLeader
	if s.direct.Load() && (stream == events.StreamDLQ || stream == events.StreamDLQCtl) {
		read = messages.FromAny
	}
	m, err := read(ctx, request)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, ErrNotFound
	case err != nil:
		return nil, err
	}
	return &m, nil
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
	if answer.Error != nil && answer.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound && answer.Error.ErrorCode != codeNoMessageFound {
		return fmt.Errorf("remove dead letter at %d: %w", sequence, answer.Error)
	}
	return nil
}
