package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
)

// traceOnly has exemplars that name their trace and nothing else. By default they also hold what a view has left out, such as the caller's user agent: more than the 128
// characters that Prometheus allows, and every scrape would warn.
func traceOnly(aggregation metric.Aggregation) exemplar.ReservoirProvider {
	byDefault := metric.DefaultExemplarReservoirProviderSelector(aggregation)
	return func(attr attribute.Set) exemplar.Reservoir { return bare{byDefault(attr)} }
}

type bare struct{ exemplar.Reservoir }

func (b bare) Offer(ctx context.Context, at time.Time, value exemplar.Value, _ []attribute.KeyValue) {
	b.Reservoir.Offer(ctx, at, value, nil)
}
