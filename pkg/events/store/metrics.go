package store

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

const scope = "github.com/tidemark/tidemark/pkg/events/store"

// metrics count how appends end. The attributes are made once: an append costs no allocation here.
type metrics struct {
	appends  metric.Int64Counter
	outcomes map[string]metric.AddOption
}

// The words for how an append ends, in the attribute "outcome". The failures are those of [errorType].
const (
	outcomeStored = "stored"
	outcomeFound  = "found" // refused or unanswered, and found to be stored
)

func newMetrics(t bus.Telemetry, stream string) metrics {
	m := metrics{outcomes: make(map[string]metric.AddOption)}
	var err error
	m.appends, err = t.Meter.Meter(scope).Int64Counter("tidemark.store.appends", metric.WithUnit("{append}"),
		metric.WithDescription("appends to an event store, by how they ended; a conflict is decided again"))
	if err != nil { // the counter works all the same
		t.Logger.Warn("metric is not as it should be", slog.String("metric", "tidemark.store.appends"), slog.Any("cause", err))
	}
	for _, outcome := range []string{outcomeStored, outcomeFound, typeConflict, typeUnknownOutcome, typeInvalid, typeFailed} {
		m.outcomes[outcome] = metric.WithAttributeSet(attribute.NewSet(attribute.String("messaging.nats.stream", stream), attribute.String("outcome", outcome)))
	}
	return m
}

func (m metrics) ended(ctx context.Context, a appended, err error) {
	outcome := outcomeStored
	switch {
	case err != nil:
		outcome = errorType(err)
	case a.found:
		outcome = outcomeFound
	}
	m.appends.Add(ctx, 1, m.outcomes[outcome])
}
