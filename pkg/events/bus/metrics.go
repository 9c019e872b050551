package bus

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

const scope = "github.com/tidemark/tidemark/pkg/events/bus"

// metrics are the numbers of one group, with its name as the only attribute, made once: an event costs no allocation here.
type metrics struct {
	handled, retried, dropped, duplicates, resets, rebalances counter
	refusing, partitions, pausing, blocked                    gauge
	parked, replays                                           metric.Int64Counter
	duration                                                  metric.Float64Histogram
	timed                                                     bool // false: nobody looks at durations, so no clock is read
	with                                                      metric.MeasurementOption
	recorded                                                  []metric.RecordOption // with, for durations
	group                                                     []attribute.KeyValue
}

type counter struct {
	metric.Int64Counter
	with []metric.AddOption
}

func (c counter) add(ctx context.Context) { c.Add(ctx, 1, c.with...) }

type gauge struct {
	metric.Int64UpDownCounter
	with metric.MeasurementOption
}

func newMetrics(provider metric.MeterProvider, group string) (*metrics, error) {
	meter := provider.Meter(scope)
	_, silent := provider.(metricnoop.MeterProvider)
	m := &metrics{timed: !silent, group: []attribute.KeyValue{attribute.String("messaging.consumer.group.name", group), attribute.String("messaging.system", "nats")}}
	m.with = metric.WithAttributeSet(attribute.NewSet(m.group...))
	m.recorded = []metric.RecordOption{m.with}
	var errs []error
	count := func(name, description string) counter {
		c, err := meter.Int64Counter(name, metric.WithDescription(description), metric.WithUnit("{event}"))
		errs = append(errs, err)
		return counter{c, []metric.AddOption{m.with}}
	}
	m.handled = count("tidemark.bus.handled", "events that a handler finished")
	m.retried = count("tidemark.bus.retried", "calls of a handler that failed and were tried again")
	m.dropped = count("tidemark.bus.dropped", "events that a handler asked to settle without an effect")
	m.parked = count("tidemark.bus.dead_lettered", "events parked as dead letters, by reason").Int64Counter
	m.replays = count("tidemark.bus.replays", "calls of a handler with the event of a dead letter, by what came of it").Int64Counter
	m.duplicates = count("tidemark.bus.duplicates", "deliveries of events that were done already")
	m.resets = count("tidemark.bus.resets", "times that an owner started over from the ack floor")
	m.rebalances = count("tidemark.bus.rebalances", "times that this member was given other partitions")
	upDown := func(name, unit, description string) gauge {
		g, err := meter.Int64UpDownCounter(name, metric.WithDescription(description), metric.WithUnit(unit))
		errs = append(errs, err)
		return gauge{g, m.with}
	}
	m.partitions = upDown("tidemark.bus.partitions", "{partition}", "partitions that this member owns")
	m.refusing = upDown("tidemark.bus.refusing", "{partition}", "partitions that stopped because a dead letter could not be stored")
	m.pausing = upDown("tidemark.bus.paused", "{group}", "1 while the group pauses because what it needs is down, or many keys fail for one cause")
	m.blocked = upDown("tidemark.bus.blocked_keys", "{key}", "keys with dead letters in the partitions that this member owns")
	var err error
	m.duration, err = meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"), metric.WithDescription("duration of one call of the handler"),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
	errs = append(errs, err)
	return m, errors.Join(errs...)
}

// lettered counts a dead letter, replayed what came of one. Both are rare enough to make their attributes each time.
func (m *metrics) lettered(ctx context.Context, reason deadletter.Reason) {
	m.parked.Add(ctx, 1, metric.WithAttributes(append(m.group[:2:2], attribute.String("reason", string(reason)))...))
}

func (m *metrics) replayed(ctx context.Context, result string) {
	m.replays.Add(ctx, 1, metric.WithAttributes(append(m.group[:2:2], attribute.String("result", result))...))
}

// paused is told when the group's breaker opens and closes.
func (m *metrics) paused(open bool) {
	n := int64(1)
	if !open {
		n = -1
	}
	m.pausing.Add(context.Background(), n, m.with)
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
		m.duration.Record(ctx, time.Since(started).Seconds(), m.recorded...)
	}
}
