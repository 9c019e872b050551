package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/bench/nexmark"
	"github.com/tidemark/tidemark/pkg/events"
)

// seen is a message of WINDOWS and when it was there to be read.
type seen struct {
	at, stored time.Time
	data       []byte
}

// resultReader reads WINDOWS as it grows. It looks at nothing: that would take time from those who are measured.
type resultReader struct {
	mu   sync.Mutex
	all  []seen
	stop func()
}

func (c *client) readResults(ctx context.Context, stream string, subjects ...string) (*resultReader, error) {
	consumer, err := c.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: subjects})
	if err != nil {
		return nil, err
	}
	r := &resultReader{}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		now := time.Now()
		meta, err := m.Metadata()
		if err != nil {
			return // not of a stream
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, seen{now, meta.Timestamp, m.Data()})
	}, jetstream.PullMaxMessages(10_000))
	if err != nil {
		return nil, err
	}
	r.stop = consuming.Stop
	return r, nil
}

func (r *resultReader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// firstAfter is when the first result was there that was stored after a time.
func (r *resultReader) firstAfter(t time.Time) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.all {
		if s.stored.After(t) {
			return s.at, true
		}
	}
	return time.Time{}, false
}

// firstSeen is the first result of a window.
type firstSeen struct {
	at       time.Time
	sequence uint64 // of TIMELINE: what made it come out
}

// outcome is what a service has said about a log, by query.
type outcome struct {
	last  map[string]map[nexmark.Place]events.WindowResult
	first map[string]map[nexmark.Place]firstSeen
	late  map[string]*nexmark.Answer
}

func (r *resultReader) outcome() (*outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &outcome{
		last: make(map[string]map[nexmark.Place]events.WindowResult), first: make(map[string]map[nexmark.Place]firstSeen), late: make(map[string]*nexmark.Answer),
	}
	for _, s := range r.all {
		var w events.WindowResult
		if err := json.Unmarshal(s.data, &w); err != nil {
			return nil, fmt.Errorf("read a result: %w", err)
		}
		if o.last[w.Query] == nil {
			o.last[w.Query], o.first[w.Query] = make(map[nexmark.Place]events.WindowResult), make(map[nexmark.Place]firstSeen)
		}
		at := nexmark.Place{Key: w.Key, Start: w.Start.UnixMilli(), End: w.End.UnixMilli()}
		if w.Timing == "retract" {
			delete(o.last[w.Query], at)
			continue
		}
		o.last[w.Query][at] = w
		if _, known := o.first[w.Query][at]; !known {
			o.first[w.Query][at] = firstSeen{s.at, w.Sequence}
		}
	}
	return o, nil
}

// digest is of the windows that end at a time or before.
func (o *outcome) digest(query string, ended int64) nexmark.Digest {
	a := nexmark.Answer{}
	if late := o.late[query]; late != nil {
		a.Late = late.Late
	}
	for at, w := range o.last[query] {
		if at.End > ended {
			continue
		}
		v := nexmark.Value{Number: w.Value}
		if len(w.Top) > 0 {
			v.Item = w.Top[0].Item + ":" + strconv.FormatInt(w.Top[0].Value, 10)
		}
		a.Result(at.Key, at.Start, at.End, w.Count, v)
	}
	return a.Digest()
}

// readLate adds what is in LATE.
func (o *outcome) readLate(ctx context.Context, c *client) error {
	return c.readAll(ctx, events.StreamLate, func(m jetstream.Msg) error {
		var l events.LateEvent
		if err := json.Unmarshal(m.Data(), &l); err != nil {
			return fmt.Errorf("read a late event: %w", err)
		}
		var missed [][2]int64
		for _, w := range l.Missed {
			missed = append(missed, [2]int64{w.Start.UnixMilli(), w.End.UnixMilli()})
		}
		if o.late[l.Query] == nil {
			o.late[l.Query] = &nexmark.Answer{}
		}
		o.late[l.Query].Miss(l.EventID, l.Reason, missed)
		return nil
	})
}

// duplicates are what the service has counted, by query.
func (c *client) duplicates(ctx context.Context) (map[string]int, error) {
	stream, err := c.js.Stream(ctx, events.StreamWindows)
	if err != nil {
		return nil, err
	}
	t := events.DefaultTopology(1)
	m, err := stream.GetLastMsgForSubject(ctx, t.Subjects().Commit("all", 0))
	if err != nil {
		return nil, fmt.Errorf("read the last commit: %w", err)
	}
	var record struct {
		Queries []struct {
			Name       string `json:"name"`
			Duplicates int    `json:"duplicates"`
		} `json:"queries"`
	}
	if err := json.Unmarshal(m.Data, &record); err != nil {
		return nil, fmt.Errorf("read the last commit: %w", err)
	}
	all := make(map[string]int)
	for _, q := range record.Queries {
		all[q.Name] = q.Duplicates
	}
	return all, nil
}

// stampOf is where a message of TIMELINE was in the log, and when it was stored.
type stampOf struct {
	place    int
	sequence uint64
	stored   int64
}

// loggedAt is where a message of TIMELINE was in the log; of a heartbeat, which was not, it gives nothing.
func loggedAt(m jetstream.Msg) (int, *jetstream.MsgMetadata, error) {
	text := m.Headers().Get(headerPlace)
	if text == "" {
		return 0, nil, nil
	}
	place, err := strconv.Atoi(text)
	if err != nil {
		return 0, nil, err
	}
	meta, err := m.Metadata()
	return place, meta, err
}

// timeline reads which delivery is where in TIMELINE.
func (c *client) timeline(ctx context.Context) ([]stampOf, error) {
	var all []stampOf
	err := c.readAll(ctx, events.StreamTimeline, func(m jetstream.Msg) error {
		place, meta, err := loggedAt(m)
		if err != nil || meta == nil {
			return err
		}
		all = append(all, stampOf{place, meta.Sequence.Stream, meta.Timestamp.UnixMilli()})
		return nil
	}, "nexmark.>")
	return all, err
}

// readAll gives every message that a stream has now.
func (c *client) readAll(ctx context.Context, stream string, each func(jetstream.Msg) error, filters ...string) error {
	consumer, err := c.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: filters, HeadersOnly: len(filters) > 0})
	if err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	left := int(info.NumPending) //nolint:gosec // small
	if left == 0 {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(10_000))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for ; left > 0; left-- {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}
