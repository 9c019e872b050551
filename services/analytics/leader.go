package analytics

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// fromLeader reads one message through the stream's leader, which knows all that is acknowledged; the client library's calls may be answered by a replica that is
// behind. request is the body of the API's MSG.GET. The error is or wraps [jetstream.ErrMsgNotFound] where there is none.
func fromLeader(ctx context.Context, js jetstream.JetStream, stream, request string) (sequence uint64, data []byte, err error) {
	prefix := js.Options().APIPrefix
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	reply, err := js.Conn().RequestWithContext(ctx, strings.TrimSuffix(prefix, ".")+".STREAM.MSG.GET."+stream, []byte(request))
	if err != nil {
		return 0, nil, fmt.Errorf("ask the leader of %s: %w", stream, err)
	}
	var answer struct {
		Message *struct {
			Sequence uint64 `json:"seq"`
			Data     []byte `json:"data"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return 0, nil, fmt.Errorf("ask the leader of %s: %w", stream, err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return 0, nil, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return 0, nil, answer.Error
	case answer.Message == nil:
		return 0, nil, jetstream.ErrMsgNotFound
	}
	return answer.Message.Sequence, answer.Message.Data, nil
}
