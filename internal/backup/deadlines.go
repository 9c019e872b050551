package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// source is who says what a restore publishes.
const source = "/tidemark/restore"

// deadlines gives a deadline to each open order that has none: a timer that was due while TIMERS was read is gone from it, and what it published came behind the end of the
// snapshot. Without a deadline such an order could stay open for ever.
func (r *restorer) deadlines(ctx context.Context) error {
	open, err := r.openOrders(ctx)
	if err != nil {
		return fmt.Errorf("find open orders: %w", err)
	}
	r.out.Open = len(open)
	timers, err := r.cfg.JS.Stream(ctx, events.StreamTimers)
	if err != nil {
		return fmt.Errorf("read deadlines: %w", err)
	}
	subjects := r.cfg.Topology.Subjects()
	for _, id := range open {
		has := false
		for _, subject := range []string{subjects.Timer(id), subjects.Timeout(id)} {
			_, err := timers.GetLastMsgForSubject(ctx, subject)
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				return fmt.Errorf("read deadline of order %s: %w", id, err)
			}
			has = has || err == nil
		}
		if has {
			continue
		}
		if err := r.setDeadline(ctx, id); err != nil {
			return fmt.Errorf("set deadline of order %s: %w", id, err)
		}
		r.out.Deadlines++
	}
	return nil
}

func (r *restorer) setDeadline(ctx context.Context, orderID string) error {
	now := time.Now()
	due := now.Add(r.cfg.Deadline).Truncate(time.Second)
	ev, err := events.New(source, events.TypeOrderDeadline, orderID, now, events.OrderDeadline{OrderID: orderID, DueAt: due})
	if err != nil {
		return err
	}
	header, data, err := events.Encode(&ev)
	if err != nil {
		return err
	}
	subjects := r.cfg.Topology.Subjects()
	msg := &nats.Msg{Subject: subjects.Timer(orderID), Header: nats.Header(header), Data: data}
	_, err = r.cfg.JS.PublishMsg(ctx, msg, jetstream.WithScheduleAt(due), jetstream.WithScheduleTarget(subjects.Timeout(orderID)))
	return err
}

// openOrders reads ORDERS once. An order is open until a second event of it comes.
func (r *restorer) openOrders(ctx context.Context) ([]string, error) {
	stream, err := r.cfg.JS.Stream(ctx, events.StreamOrders)
	if err != nil {
		return nil, err
	}
	last := stream.CachedInfo().State.LastSeq
	if last == 0 {
		return nil, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return nil, err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(4096))
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	open := make(map[string]string) // by subject: the order
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, err
		}
		if ev, err := events.Decode(events.Header(m.Headers()), m.Data()); err == nil { // what can't be read is nobody's order
			if ev.Type == events.TypeOrderPlaced {
				open[m.Subject()] = ev.Subject
			} else {
				delete(open, m.Subject())
			}
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		if meta.Sequence.Stream >= last {
			break
		}
	}
	ids := make([]string, 0, len(open))
	for _, id := range open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}
