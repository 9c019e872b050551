package notify

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const scope = "github.com/tidemark/tidemark/services/notify"

// metrics is what the service counts.
type metrics struct {
	notices metric.Int64Counter
	unknown metric.Int64Counter
}

func newMetrics(provider metric.MeterProvider) (*metrics, error) {
	meter := provider.Meter(scope)
	notices, err := meter.Int64Counter("tidemark.notify.notices",
		metric.WithDescription("Order events told, by channel and outcome: sent, skipped (no address), known (told before), failed (one attempt)"))
	unknown, err2 := meter.Int64Counter("tidemark.notify.ignored", metric.WithDescription("Order events of a type that customers are not told of, by type"))
	return &metrics{notices: notices, unknown: unknown}, errors.Join(err, err2)
}

func (m *metrics) count(ctx context.Context, channel, outcome string) {
	m.notices.Add(ctx, 1, metric.WithAttributes(attribute.String("channel", channel), attribute.String("outcome", outcome)))
}

func (m *metrics) told(ctx context.Context, channel string, o outcome) {
	if o.skipped != "" {
		m.count(ctx, channel, "skipped")
		return
	}
	m.count(ctx, channel, "sent")
}

func (m *metrics) known(ctx context.Context, channel string)  { m.count(ctx, channel, "known") }
func (m *metrics) failed(ctx context.Context, channel string) { m.count(ctx, channel, "failed") }

func (m *metrics) ignored(ctx context.Context, eventType string) {
	m.unknown.Add(ctx, 1, metric.WithAttributes(attribute.String("type", eventType)))
}
