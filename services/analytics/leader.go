package analytics

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fromLeader reads one message through the stream's leader, which knows all that is acknowledged; the client library's calls may be answered by a replica that is
// behind. request is the body of the API's MSG.GET. The error is or wraps [jetstream.ErrMsgNotFound] where there is none.
func fromLeader(ctx context.Context, js jetstream.JetStream, stream, request string) (m logMessage, err error) {
	prefix := js.Options().APIPrefix
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	reply, err := js.Conn().RequestWithContext(ctx, strings.TrimSuffix(prefix, ".")+".STREAM.MSG.GET."+stream, []byte(request))
	if err != nil {
		return logMessage{}, fmt.Errorf("ask the leader of %s: %w", stream, err)
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
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return logMessage{}, fmt.Errorf("ask the leader of %s: %w", stream, err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return logMessage{}, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return logMessage{}, answer.Error
	case answer.Message == nil:
		return logMessage{}, jetstream.ErrMsgNotFound
	}
	m = logMessage{subject: answer.Message.Subject, sequence: answer.Message.Sequence, stored: answer.Message.Time, data: answer.Message.Data}
	if len(answer.Message.Header) > 0 {
		if m.header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return logMessage{}, fmt.Errorf("message %d of %s: %w", m.sequence, stream, err)
		}
	}
	return m, nil
}
