package bus

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
)

const scope = "github.com/tidemark/tidemark/pkg/events/bus"

// metrics are the numbers of one group, with its name as the only attribute, made once: an event costs no allocation here.
type metrics struct {
	handled, retried, parked, duplicates, resets, rebalances counter
	refusing, partitions                                     gauge
	duration                                                 metric.Float64Histogram
	timed                                                    bool // false: nobody looks at durations, so no clock is read
	with                                                     metric.MeasurementOption
}

type counter struct {
	metric.Int64Counter
	with metric.MeasurementOption
}

func (c counter) add(ctx context.Context) { c.Add(ctx, 1, c.with) }

type gauge struct {
	metric.Int64UpDownCounter
	with metric.MeasurementOption
}

func newMetrics(provider metric.MeterProvider, group string) (*metrics, error) {
	meter := provider.Meter(scope)
	_, silent := provider.(metricnoop.MeterProvider)
	m := &metrics{
		timed: !silent,
		with:  metric.WithAttributeSet(attribute.NewSet(attribute.String("messaging.consumer.group.name", group), attribute.String("messaging.system", "nats"))),
	}
	var errs []error
	count := func(name, description string) counter {
		c, err := meter.Int64Counter(name, metric.WithDescription(description), metric.WithUnit("{event}"))
		errs = append(errs, err)
		return counter{c, m.with}
	}
	m.handled = count("tidemark.bus.handled", "events that a handler finished")
	m.retried = count("tidemark.bus.retried", "calls of a handler that failed and were tried again")
	m.parked = count("tidemark.bus.dead_lettered", "events parked as dead letters")
	m.duplicates = count("tidemark.bus.duplicates", "deliveries of events that were done already")
	m.resets = count("tidemark.bus.resets", "times that an owner started over from the ack floor")
	m.rebalances = count("tidemark.bus.rebalances", "times that this member was given other partitions")
	owned, err := meter.Int64UpDownCounter("tidemark.bus.partitions", metric.WithDescription("partitions that this member owns"), metric.WithUnit("{partition}"))
	errs = append(errs, err)
	m.partitions = gauge{owned, m.with}
	refusing, err := meter.Int64UpDownCounter("tidemark.bus.refusing", metric.WithDescription("partitions that stopped because a dead letter could not be stored"), metric.WithUnit("{partition}"))
	errs = append(errs, err)
	m.refusing = gauge{refusing, m.with}
	m.duration, err = meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"), metric.WithDescription("duration of one call of the handler"),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
	errs = append(errs, err)
	return m, errors.Join(errs...)
}

// start reads the clock where durations are wanted.
func (m *metrics) start() time.Time {
	if !m.timed {
		return time.Time{}
	}
	return time.Now()
}

func (m *metrics) took(ctx context.Context, started time.Time) {
	if m.timed {
		m.duration.Record(ctx, time.Since(started).Seconds(), m.with)
	}
}
