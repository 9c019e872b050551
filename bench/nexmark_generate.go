package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/bench/nexmark"
	"github.com/tidemark/tidemark/pkg/events"
)

type generateCmd struct {
	NATS   string  `name:"nats" required:""`
	Events int     `required:""`
	Rate   float64 `help:"Messages a second; 0: as fast as it goes."`
	Start  int64   `required:"" help:"When the first is due, nanoseconds since 1970."`
}

// sentSummary is what the generator says at its end.
type sentSummary struct {
	Messages int     `json:"messages"`
	Seconds  float64 `json:"seconds"`
	SlipP99  float64 `json:"slip_p99_ms"` // how much later than due a message was given to the client library
	SlipMax  float64 `json:"slip_max_ms"`
	Failed   int     `json:"failed"`
}

const (
	window16k = 16_384 // messages that are not acknowledged yet; more are not sent, and slip
	pause     = 200 * time.Microsecond
)

// Run is an open loop: message i is due at start + i / rate, whatever became of those before it.
func (c *generateCmd) Run(b *bench) error {
	var failed atomic.Int64
	to, err := dial(c.NATS, jetstream.WithPublishAsyncMaxPending(window16k),
		jetstream.WithPublishAsyncErrHandler(func(jetstream.JetStream, *nats.Msg, error) { failed.Add(1) }))
	if err != nil {
		return err
	}
	defer to.close()
	cfg := nexmark.Default(c.Events)
	log := cfg.Log()
	defer withoutGarbageCollection()()
	start := time.Unix(0, c.Start)
	if late := time.Since(start); late > 0 {
		return fmt.Errorf("the first message was due %s ago: preparing took too long", late)
	}
	slip := newLatencies()
	began := time.Time{}
	for i := range log {
		due := start
		if c.Rate > 0 {
			due = start.Add(time.Duration(float64(i) / c.Rate * float64(time.Second)))
		}
		if err := until(b.ctx, due); err != nil {
			return err
		}
		if i == 0 {
			began = time.Now()
		}
		if c.Rate > 0 {
			slip.note(time.Since(due))
		}
		if _, err := to.js.PublishMsgAsync(nexmarkMessage(&cfg, log, i, due), jetstream.WithRetryAttempts(0), jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	select {
	case <-to.js.PublishAsyncComplete():
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	return json.NewEncoder(os.Stdout).Encode(sentSummary{
		Messages: len(log), Seconds: time.Since(began).Seconds(), SlipP99: slip.quantile(99), SlipMax: slip.quantile(100), Failed: int(failed.Load()),
	})
}

// until waits for a time, or a little longer: waking up costs as much as sending some messages.
func until(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(max(wait, pause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func nexmarkMessage(c *nexmark.Config, log []nexmark.Delivery, i int, due time.Time) *nats.Msg {
	d := &log[i]
	e := c.Event(d.Number)
	return &nats.Msg{
		Subject: nexmarkSubject(d, e.Kind),
		Header: nats.Header{
			"ce-specversion": {"1.0"}, "ce-id": {e.ID()}, "ce-source": {"/bench/nexmark"}, "ce-type": {e.Kind.Type()},
			"ce-subject": {strconv.FormatInt(e.Person, 10)}, "ce-time": {time.UnixMilli(d.Time).UTC().Format(time.RFC3339Nano)},
			"ce-dataschema": {events.SchemaURI(e.Kind.Type())}, events.HeaderContentType: {"application/json"},
			headerPlace: {strconv.Itoa(i)}, headerDue: {strconv.FormatInt(due.UnixNano(), 10)},
		},
		Data: c.AppendPayload(nil, &e),
	}
}

// latencies are times from 1 microsecond to 120 seconds, to three digits.
type latencies struct{ h *hdrhistogram.Histogram }

func newLatencies() latencies {
	return latencies{hdrhistogram.New(1, (120 * time.Second).Microseconds(), 3)}
}

func (l latencies) note(d time.Duration) {
	us := min(max(d.Microseconds(), 1), (120 * time.Second).Microseconds())
	_ = l.h.RecordValue(us) // within the range
}

// quantile in milliseconds.
func (l latencies) quantile(q float64) float64 { return float64(l.h.ValueAtQuantile(q)) / 1000 }
