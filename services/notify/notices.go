package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// The channels, as notices name them.
const (
	channelEmail   = "email"
	channelWebhook = "webhook"
)

// source is the CloudEvents source of what this service says.
const source = "/tidemark/notify"

// notices is the record of what was sent: at most one event on the subject of an order, its version and a channel.
type notices struct {
	log      *store.Store // NOTICES
	subjects events.Subjects
}

// outcome is what became of sending.
type outcome struct {
	messageID string // what was sent
	skipped   string // or why nothing was
}

// known reports whether the notice is recorded.
func (n notices) known(ctx context.Context, about news, channel string) (bool, error) {
	_, err := n.log.Last(ctx, n.subjects.Notice(about.orderID, about.version, channel))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for notice: %w", err)
	}
	return true, nil
}

// record appends the notice. That somebody else recorded it first is no error: it is recorded. known: it was, by an earlier call or by somebody else.
func (n notices) record(ctx context.Context, about news, channel string, o outcome) (known bool, err error) {
	eventType := events.TypeNoticeSent
	if o.skipped != "" {
		eventType = events.TypeNoticeSkipped
	}
	ev, err := events.New(source, eventType, about.orderID, time.Now(), events.Notice{
		OrderID: about.orderID, OrderVersion: about.version, Channel: channel, EventType: about.eventType, MessageID: o.messageID, Reason: o.skipped,
	})
	if err != nil {
		return false, fmt.Errorf("record notice: %w", err)
	}
	ev.ID = events.DeriveID(about.eventID, channel, "notice")
	ev.CausationID, ev.CorrelationID, ev.Version = about.eventID, about.correlationID, 1
	known, err = n.log.AppendOnce(ctx, n.subjects.Notice(about.orderID, about.version, channel), ev)
	if err != nil {
		return false, fmt.Errorf("record notice: %w", err)
	}
	return known, nil
}
