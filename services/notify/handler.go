package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// channel is one way to reach a customer.
type channel interface {
	name() string
	// address is where the customer is reached; the error wraps errNoAddress where nowhere. A channel that needs none has the empty one.
	address(ctx context.Context, n news) (string, error)
	// send sends the news, under an id that is always the same for the same news. An error that is not permanent means that sending again may help.
	send(ctx context.Context, n news) (outcome, error)
}

// recordTime is how long the record of what was sent may take. It does not end with the handler's time limit: what is sent and not recorded is sent
// again.
const recordTime = 5 * time.Second

// handle tells one order event over every channel. It may be called again for the same event, at any time.
func (s *Service) handle(ctx context.Context, d bus.Delivery) error {
	n, tell, err := readNews(d, s.notices.subjects)
	if err != nil {
		return fail.Permanent(err)
	}
	if !tell {
		s.metrics.ignored(ctx, n.eventType)
		return nil
	}
	failures := make([]error, 0, len(s.channels))
	for _, c := range s.channels {
		if err := s.tell(ctx, n, c); err != nil {
			s.metrics.failed(ctx, c.name())
			failures = append(failures, fmt.Errorf("tell %s of order %s, version %d, by %s: %w", n.eventType, n.orderID, n.version, c.name(), err))
		}
	}
	return verdict(failures)
}

// tell sends the news over one channel, unless that is recorded, and records it.
func (s *Service) tell(ctx context.Context, n news, c channel) error {
	o, known, err := s.send(ctx, n, c)
	if err != nil {
		return err
	}
	if !known {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
		defer cancel()
		recorded, err := s.notices.record(ctx, n, c.name(), o)
		if err != nil {
			return err
		}
		known = recorded && o.skipped != "" // what was sent was sent, also where another instance did as well and recorded it first
	}
	if known {
		s.metrics.known(ctx, c.name())
		return nil
	}
	s.metrics.told(ctx, c.name(), o)
	return nil
}

// send is the channel's, in a span of its own: it is where notify's time goes. Its error is not told there: it may name an address. known: it was sent before.
//
// Whether there is a notice is only looked up where something is to be sent. Who has no address is told nothing, so there the one append that records it may find what it would
// have found: many orders have nobody to tell, and it is a look less for each of their events.
func (s *Service) send(ctx context.Context, n news, c channel) (o outcome, known bool, err error) {
	ctx, span := s.tracer.Start(ctx, "send "+c.name(), trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	n.address, err = c.address(ctx, n)
	if errors.Is(err, errNoAddress) {
		return outcome{skipped: reasonNoAddress}, false, nil
	}
	known, lookErr := s.notices.known(ctx, n, c.name())
	switch {
	case lookErr != nil:
		err = lookErr
	case known: // whatever has become of the address since
		return outcome{}, true, nil
	case err == nil:
		o, err = c.send(ctx, n)
	}
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	return o, false, err
}

// verdict makes one error of the channels' failures. While one of them may heal, the event is to be tried again: a permanent failure of one channel must not
// take the others with it. So permanence, and the longest wait that was asked for, count only where they speak for all that is left.
func verdict(failures []error) error {
	var lasting, passing []error
	var wait time.Duration
	for _, err := range failures {
		if fail.IsPermanent(err) {
			lasting = append(lasting, err)
			continue
		}
		passing = append(passing, err)
		if w, ok := fail.Wait(err); ok {
			wait = max(wait, w)
		}
	}
	if len(passing) == 0 {
		return errors.Join(lasting...)
	}
	err := errors.Join(passing...)
	for _, l := range lasting {
		err = fmt.Errorf("%w; for good: %v", err, l) //nolint:errorlint // wrapped, it would make the whole permanent
	}
	if wait > 0 {
		return fail.RetryAfter(wait, err)
	}
	return err
}
