package load

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
)

// sender sends orders and clicks and counts the answers. It is used by many goroutines.
type sender struct {
	look   client.Config // asks once, and does without an answer
	api    *client.Client
	report *reporter
	began  time.Time // of the run, on this machine's clock

	producer *producer                     // of what is stored past the API; nil where nothing is
	before   map[string]client.QueryCounts // where analytics stood before the first request

	mu      sync.Mutex
	sum     Summary
	span    span     // of what was accepted
	open    []string // ids of accepted orders that have not ended, as far as is known
	refusal string   // the first one
	failure error    // the first one
}

// place sends one order under its key, and again under the same key as long as the API does not answer. It fails only where every other order must
// fail as well.
func (s *sender) place(ctx context.Context, key string, o client.NewOrder) (accepted bool, err error) {
	placed, err := s.api.PlaceOrder(ctx, key, o)
	isNew := err == nil && (!placed.Replayed || placed.Uncertain && s.placedNow(ctx, placed.ID))
	s.report.add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch status := client.StatusOf(err); {
	case err == nil:
		s.accept(placed.Order, isNew)
		s.span.add(o.PlacedAt)
	case ctx.Err() != nil:
		return false, err
	case status == http.StatusUnprocessableEntity || status == http.StatusBadRequest:
		s.sum.Refused++
		if s.refusal == "" {
			s.refusal = fmt.Sprintf("%s: %v", key, err)
		}
	case wrongAddress(status):
		return false, fmt.Errorf("order %s: %w", key, err)
	default:
		s.sum.Failed++
		if s.failure == nil {
			s.failure = fmt.Errorf("order %s: %w", key, err)
		}
	}
	return err == nil, nil
}

func (s *sender) accept(o client.Order, isNew bool) {
	if isNew {
		s.sum.Placed++
	} else {
		s.sum.Duplicates++
	}
	if !s.ended(o) {
		s.open = append(s.open, o.ID)
	}
}

// ended counts an order that has ended. The caller holds mu.
func (s *sender) ended(o client.Order) bool {
	switch o.Status {
	case client.StatusConfirmed:
		s.sum.Confirmed++
	case client.StatusRejected:
		s.sum.Rejected++
	case client.StatusCancelled:
		s.sum.Cancelled++
	default:
		return false
	}
	return true
}

// placedNow decides the one case that the answer leaves open: the API has the order, and this run asked for it before without getting an answer. It
// is new if it was stored since the run began.
func (s *sender) placedNow(ctx context.Context, id string) bool {
	evs, err := s.api.OrderEvents(ctx, id)
	return err == nil && len(evs) > 0 && !evs[0].StoredAt.Before(s.began)
}

// wrongAddress tells an answer that has nothing to do with the order that was sent.
func wrongAddress(status int) bool {
	switch status {
	case 0, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// click sends clicks as one batch.
func (s *sender) click(ctx context.Context, clicks []events.Event) error {
	accepted, err := s.api.PostClicks(ctx, clicks)
	s.report.add(len(clicks))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch status := client.StatusOf(err); {
	case err == nil:
		s.sum.Clicks += accepted
		for i := range clicks {
			s.span.add(clicks[i].Time)
		}
	case ctx.Err() != nil:
		return err
	case status == http.StatusUnprocessableEntity || status == http.StatusBadRequest:
		s.sum.ClicksRefused += len(clicks)
		if s.refusal == "" {
			s.refusal = err.Error()
		}
	default:
		return fmt.Errorf("clicks: %w", err)
	}
	return nil
}
