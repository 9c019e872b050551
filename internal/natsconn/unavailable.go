package natsconn

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Error codes of the JetStream API that a cluster answers with that has no leader, or not all of its servers yet.
const (
	codeNoLeader   jetstream.ErrorCode = 10008
	codeNotLeader  jetstream.ErrorCode = 10009
	codeNoPeers    jetstream.ErrorCode = 10005
	codeFewPeers   jetstream.ErrorCode = 10023
	codeIncomplete jetstream.ErrorCode = 10004
)

// unavailable reports whether an error says that the broker can't answer now.
func unavailable(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode == codeNoLeader || api.ErrorCode == codeNotLeader
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, errNoLeader)
}

// Forming reports whether an error is that of a cluster whose servers have not found each other yet: what was asked for may be granted in a moment.
func Forming(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch api.ErrorCode {
		case codeNoPeers, codeFewPeers, codeIncomplete:
			return true
		}
	}
	return unavailable(err)
}
