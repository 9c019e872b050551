package order

import (
	"context"
	"errors"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/pkg/events"
)

// metrics count what this instance did. What the system did stands in the log.
type metrics struct {
	placedOrders metric.Int64Counter
	endedOrders  metric.Int64Counter
	payments     metric.Float64Histogram
	confirmed    metric.Float64Histogram
	began        *lru.Cache[string, time.Time] // when this instance placed an order
}

// knownPlaced is how many orders may be open before the times of the oldest are no longer measured.
const knownPlaced = 1 << 16

// longest asks how old the oldest order that has not ended is, and whether there is one.
type longest func(context.Context) (time.Duration, bool)

func newMetrics(provider metric.MeterProvider, listing func() *table, oldest longest, deadline time.Duration) (*metrics, error) {
	meter := provider.Meter("github.com/tidemark/tidemark/services/order")
	placed, err1 := meter.Int64Counter("tidemark.orders.placed", metric.WithDescription("Orders placed by this instance."), metric.WithUnit("{order}"))
	ended, err2 := meter.Int64Counter("tidemark.orders.ended", metric.WithDescription("Orders ended by this instance, by outcome."), metric.WithUnit("{order}"))
	payments, err3 := meter.Float64Histogram("tidemark.payment.duration", metric.WithDescription("Time that the payment gateway took, by outcome."), metric.WithUnit("s"))
	confirmed, err4 := meter.Float64Histogram("tidemark.orders.time_to_confirmed", metric.WithUnit("s"),
		metric.WithDescription("From placing to confirmed, of the orders that this instance placed and confirmed."),
		metric.WithExplicitBucketBoundaries(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120))
	began, err5 := lru.New[string, time.Time](knownPlaced)
	m := &metrics{placedOrders: placed, endedOrders: ended, payments: payments, confirmed: confirmed, began: began}
	return m, errors.Join(err1, err2, err3, err4, err5, observeOrders(meter, listing, oldest, deadline))
}

// observeOrders measures all orders, as the read model knows them: each instance reports the same.
func observeOrders(meter metric.Meter, listing func() *table, oldest longest, deadline time.Duration) error {
	open, err1 := meter.Int64ObservableGauge("tidemark.orders.open", metric.WithDescription("Orders that have not ended, as the read model knows."), metric.WithUnit("{order}"))
	state, err2 := meter.Int64ObservableGauge("tidemark.orders.state", metric.WithDescription("Orders by state, as the read model knows."), metric.WithUnit("{order}"))
	age, err3 := meter.Float64ObservableGauge("tidemark.orders.oldest_open_age", metric.WithUnit("s"),
		metric.WithDescription("How long ago the oldest order that has not ended was stored; 0 where there is none."))
	due, err4 := meter.Float64ObservableGauge("tidemark.orders.deadline", metric.WithUnit("s"), metric.WithDescription("The time after which an order that is still open is rejected."))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		t := listing()
		o.ObserveInt64(open, int64(t.openOrders()))
		for status, n := range t.byStatus() {
			if Status(status) != None { //nolint:gosec // six of them
				o.ObserveInt64(state, int64(n), metric.WithAttributes(attribute.String("state", Status(status).String()))) //nolint:gosec // six of them
			}
		}
		o.ObserveFloat64(due, deadline.Seconds())
		if old, ok := oldest(ctx); ok {
			o.ObserveFloat64(age, old.Seconds())
		}
		return nil
	}, open, state, age, due)
	return err
}

func (m *metrics) placed(ctx context.Context, id string, at time.Time) {
	m.placedOrders.Add(ctx, 1)
	m.began.Add(id, at)
}

func (m *metrics) ended(ctx context.Context, id string, evs []events.Event) {
	at, known := m.began.Peek(id)
	if known {
		m.began.Remove(id)
	}
	for i := range evs {
		m.endedOrders.Add(ctx, 1, metric.WithAttributes(attribute.String("type", evs[i].Type)))
		if known && evs[i].Type == events.TypeOrderConfirmed {
			m.confirmed.Record(ctx, time.Since(at).Seconds())
		}
	}
}

func (m *metrics) charged(ctx context.Context, took time.Duration, p payment, err error) {
	outcome := p.Status
	if err != nil {
		outcome = "error"
	}
	m.payments.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("outcome", outcome)))
}
