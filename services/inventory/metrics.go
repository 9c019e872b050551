package inventory

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/pkg/events"
)

const scope = "github.com/tidemark/tidemark/services/inventory"

// metrics is what the service counts.
type metrics struct {
	decisions  metric.Int64Counter
	batch      metric.Int64Histogram
	conflicts  metric.Int64Counter
	lookups    metric.Int64Counter
	unexpected metric.Int64Counter
	snapshots  metric.Int64Counter
}

func newMetrics(provider metric.MeterProvider, l *live) (*metrics, error) {
	meter := provider.Meter(scope)
	var errs []error
	counter := func(name, description string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	m := &metrics{
		decisions:  counter("tidemark.inventory.decisions", "Events appended to STOCK, by type"),
		conflicts:  counter("tidemark.inventory.conflicts", "Appends that lost the warehouse's lock, or whose outcome was unknown, and were decided again"),
		lookups:    counter("tidemark.inventory.lookups", "Orders that were forgotten and looked up in STOCK"),
		unexpected: counter("tidemark.inventory.unexpected", "Order events that should not have happened, by type"),
		snapshots:  counter("tidemark.inventory.snapshots", "Snapshots stored"),
	}
	var err error
	m.batch, err = meter.Int64Histogram("tidemark.inventory.batch", metric.WithDescription("Events in one append to STOCK"),
		metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 20, 50, 100, 200))
	errs = append(errs, err)
	_, err = meter.Int64ObservableGauge("tidemark.inventory.position", metric.WithDescription("The sequence of STOCK that the state is folded to"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(l.position())) //nolint:gosec // a stream sequence never reaches 2^63
			return nil
		}))
	return m, errors.Join(append(errs, err)...)
}

func byType(eventType string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("type", eventType))
}

func (m *metrics) decided(ctx context.Context, p *plan) {
	if len(p.changes) > 0 {
		m.batch.Record(ctx, int64(len(p.changes)))
	}
	counts := map[string]int64{}
	for _, c := range p.changes {
		counts[c.kind]++
	}
	for kind, n := range counts {
		m.decisions.Add(ctx, n, byType(kind))
	}
	if n := len(p.strange); n > 0 {
		m.unexpected.Add(ctx, int64(n), byType(events.TypeOrderConfirmed))
	}
}

func (m *metrics) conflict(ctx context.Context) { m.conflicts.Add(ctx, 1) }
func (m *metrics) lookup(ctx context.Context)   { m.lookups.Add(ctx, 1) }
func (m *metrics) snapshot(ctx context.Context) { m.snapshots.Add(ctx, 1) }
