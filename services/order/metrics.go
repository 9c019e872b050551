package order

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/pkg/events"
)

// metrics count what this instance did. What the system did stands in the log.
type metrics struct {
	placedOrders metric.Int64Counter
	endedOrders  metric.Int64Counter
	payments     metric.Float64Histogram
}

func newMetrics(provider metric.MeterProvider, listing func() *table) (*metrics, error) {
	meter := provider.Meter("github.com/tidemark/tidemark/services/order")
	placed, err1 := meter.Int64Counter("tidemark.orders.placed", metric.WithDescription("Orders placed by this instance."), metric.WithUnit("{order}"))
	ended, err2 := meter.Int64Counter("tidemark.orders.ended", metric.WithDescription("Orders ended by this instance, by outcome."), metric.WithUnit("{order}"))
	payments, err3 := meter.Float64Histogram("tidemark.payment.duration", metric.WithDescription("Time that the payment gateway took, by outcome."), metric.WithUnit("s"))
	_, err4 := meter.Int64ObservableGauge("tidemark.orders.open", metric.WithDescription("Orders that have not ended, as the read model knows."), metric.WithUnit("{order}"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(listing().openOrders()))
			return nil
		}))
	return &metrics{placedOrders: placed, endedOrders: ended, payments: payments}, errors.Join(err1, err2, err3, err4)
}

func (m *metrics) placed(ctx context.Context) { m.placedOrders.Add(ctx, 1) }

func (m *metrics) ended(ctx context.Context, evs []events.Event) {
	for i := range evs {
		m.endedOrders.Add(ctx, 1, metric.WithAttributes(attribute.String("type", evs[i].Type)))
	}
}

func (m *metrics) charged(ctx context.Context, took time.Duration, p payment, err error) {
	outcome := p.Status
	if err != nil {
		outcome = "error"
	}
	m.payments.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("outcome", outcome)))
}
