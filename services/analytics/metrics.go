package analytics

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const scope = "github.com/tidemark/tidemark/services/analytics"

// observe registers the service's metrics. They are read off the view, so they cost nothing while nobody looks, and they say what is committed. An instance that
// stands by reports nothing.
func observe(provider metric.MeterProvider, v *view) error {
	meter := provider.Meter(scope)
	// Counters that a restart does not set back: they are of the log, not of the process.
	handled, err := meter.Int64ObservableCounter("tidemark.analytics.events",
		metric.WithDescription("Events of TIMELINE that a query took, by what became of them; the verdicts add up to what was read"))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	given, err := meter.Int64ObservableCounter("tidemark.analytics.events_read",
		metric.WithDescription("Events of TIMELINE that came to a query, counted before anything is made of them: what the verdicts must add up to"))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	watermark, err := meter.Int64ObservableGauge("tidemark.analytics.watermark", metric.WithUnit("ms"),
		metric.WithDescription("The query's watermark: every event before it is presumed seen; event time, since 1970"))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	age, err := meter.Float64ObservableGauge("tidemark.analytics.watermark_age", metric.WithUnit("s"),
		metric.WithDescription("How far the query's watermark is behind the clock; of events dated long ago it is long"))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	open, err := meter.Int64ObservableGauge("tidemark.analytics.open_windows", metric.WithUnit("{window}"), metric.WithDescription("Windows that have not come out yet"))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	_, err = meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		_, err := v.own(ctx, func(now standing) {
			for name, q := range now.queries {
				query := attribute.String("query", name)
				for verdict, n := range q.verdicts() {
					o.ObserveInt64(handled, int64(n), metric.WithAttributes(query, attribute.String("verdict", verdict))) //nolint:gosec // a count of events never reaches 2^63
				}
				o.ObserveInt64(given, int64(q.Given), metric.WithAttributes(query)) //nolint:gosec // a count of events never reaches 2^63
				if q.Watermark != nil {
					o.ObserveInt64(watermark, *q.Watermark, metric.WithAttributes(query))
					o.ObserveFloat64(age, time.Since(time.UnixMilli(*q.Watermark)).Seconds(), metric.WithAttributes(query))
				}
				o.ObserveInt64(open, int64(len(now.notOut(name))), metric.WithAttributes(query))
			}
		})
		return err
	}, handled, given, watermark, age, open)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// verdicts are the counts by what became of the events. They add up to what was read.
func (q *queryRecord) verdicts() map[string]uint64 {
	return map[string]uint64{
		"counted": q.Counted, "partially_late": q.PartiallyLate, "too_late": q.TooLate, "future_skew": q.FutureSkew, "no_id": q.NoID,
		"duplicate": q.Duplicates, "unreadable": q.Unreadable,
	}
}
