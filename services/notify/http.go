package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// Notice is what became of telling one order event over one channel.
type Notice struct {
	OrderID      string    `json:"order_id"`
	OrderVersion uint64    `json:"order_version" doc:"Which of the order's events, 1 for the first"`
	EventType    string    `json:"event_type" example:"shop.order.confirmed.v1"`
	Channel      string    `json:"channel" enum:"email,webhook"`
	Status       string    `json:"status" enum:"sent,skipped"`
	MessageID    string    `json:"message_id,omitempty" doc:"Message-ID of the mail, or webhook-id"`
	Reason       string    `json:"reason,omitempty" doc:"Why nothing was sent"`
	At           time.Time `json:"at" doc:"When it was recorded"`
}

// NoticeList is all notices of one order.
type NoticeList struct {
	Items []Notice `json:"items" doc:"In the order of the order's events. What is not told yet is absent."`
}

type noticesInput struct {
	Order string `query:"order" required:"true" minLength:"1" maxLength:"128" doc:"Id of the order"`
}

type noticesOutput struct{ Body NoticeList }

// maxVersions bounds one request. An order has three events at most today.
const maxVersions = 100

// Routes registers the service's one page. The mails themselves are at the mail server.
func (s *Service) Routes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-notices", Method: http.MethodGet, Path: "/v1/notices", Tags: []string{"notify"}, Summary: "What a customer was told of an order",
		Errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity}, Security: access.Any(access.OrdersRead, access.Operator),
	}, s.listNotices)
}

func (s *Service) listNotices(ctx context.Context, in *noticesInput) (*noticesOutput, error) {
	last, err := s.orders.Last(ctx, s.notices.subjects.Order(in.Order))
	if errors.Is(err, store.ErrNotFound) {
		return nil, huma.Error404NotFound("no such order")
	}
	if err != nil {
		return nil, fmt.Errorf("list notices: %w", err)
	}
	items := make([]Notice, 0, 2*last.Version)
	for version := uint64(1); version <= min(last.Version, maxVersions); version++ {
		for _, channel := range []string{channelEmail, channelWebhook} {
			n, err := s.notices.read(ctx, in.Order, version, channel)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list notices: %w", err)
			}
			items = append(items, n)
		}
	}
	return &noticesOutput{Body: NoticeList{Items: items}}, nil
}

// read is one notice. Its error wraps [store.ErrNotFound].
func (n notices) read(ctx context.Context, order string, version uint64, channel string) (Notice, error) {
	r, err := n.log.Last(ctx, n.subjects.Notice(order, version, channel))
	if err != nil {
		return Notice{}, err
	}
	p, err := events.Payload[events.Notice](&r.Event)
	if err != nil {
		return Notice{}, err
	}
	status := "sent"
	if r.Type == events.TypeNoticeSkipped {
		status = "skipped"
	}
	return Notice{
		OrderID: p.OrderID, OrderVersion: p.OrderVersion, EventType: p.EventType, Channel: p.Channel, Status: status,
		MessageID: p.MessageID, Reason: p.Reason, At: r.Time,
	}, nil
}
