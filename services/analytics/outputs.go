package analytics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// publisher gives the outputs of committed steps to WINDOWS, LATE and ALERTS. Doing it again, after a crash or by an instance that woke up late, changes
// nothing, however long ago the first time was:
//
//   - the last message on the subject of a window is the truth about it, and says which message of TIMELINE made it come out. A result is stored only on top of
//     one that came out earlier, and only if nobody came in between;
//   - a late event expects the last sequence of LATE. Who commits is fenced, so what comes at which place of LATE hangs on the log alone;
//   - an alert expects that there is none about its window.
//
// All of it is on its way at once: none of the three waits for another one.
type publisher struct {
	js       jetstream.JetStream
	encoder  *bus.Encoder
	subjects events.Subjects
	spans    bus.PublishSpans
	plan     *plan
	half     func() error // called in the midst of it

	own  *own               // of results that the index has; nil: it does not have them
	last map[string]lastOut // of subjects with windows that may come out again. A guess: the broker has the last word
}

// lastOut is the last message of a subject.
type lastOut struct {
	sequence uint64
	cause    uint64 // the sequence of TIMELINE that its result came out of
}

func newPublisher(js jetstream.JetStream, encoder *bus.Encoder, subjects events.Subjects, p *plan, half func() error) *publisher {
	return &publisher{js: js, encoder: encoder, subjects: subjects, plan: p, half: half, last: make(map[string]lastOut)}
}

// errForeign says that a subject of ours holds something that we did not write.
var errForeign = errors.New("holds what this log did not give")

const (
	publishTries = 5 // without an answer, as between two leaders of a stream
	publishPause = 200 * time.Millisecond
	stallWait    = 5 * time.Second
	perOutput    = 2 * time.Millisecond // what each output adds to the time that all may take

	mostRemembered = 20_000 // subjects
	asksAtOnce     = 16
	mostTries      = 10 // of one subject against others that write to it
)

// publish stores the outputs of a record, and returns the last sequence of LATE then. names are the queries by their place in the record.
func (p *publisher) publish(ctx context.Context, rec *record) (lateSeq uint64, err error) {
	if rec.Outputs.empty() {
		return rec.LateBefore, nil
	}
	names := make([]string, len(rec.Queries))
	for i, q := range rec.Queries {
		names[i] = q.Name
	}
	n := len(rec.Outputs.Results) + len(rec.Outputs.Late)
	ctx, cancel := context.WithTimeout(ctx, requestTimeout+time.Duration(n)*perOutput)
	defer cancel()
	ctx, span := p.spans.Derived(ctx, events.StreamWindows, n)
	defer func() { p.spans.End(span, err, "publish") }()
	results := p.sendResults(ctx, names, rec.Outputs.Results)
	if results.err != nil {
		return 0, during("results", results.settle(ctx))
	}
	alerts := p.sendAlerts(ctx, names, rec.Outputs.Results)
	lates := p.sendLates(ctx, names, rec.Outputs.Late, rec.LateBefore)
	err = errors.Join(during("results", results.settle(ctx)), during("alerts", alerts.settle(ctx)))
	lateSeq, lateErr := lates.settle(ctx)
	if err := errors.Join(err, during("late events", lateErr)); err != nil {
		return 0, err
	}
	return lateSeq, nil
}

func during(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("publish %s: %w", what, err)
}

// sent is one message on its way.
type sent struct {
	subject string
	future  jetstream.PubAckFuture
}

func (p *publisher) send(ctx context.Context, subject string, ev events.Event, expect jetstream.PublishOpt) (sent, error) {
	msg, err := p.encoder.Encode(ctx, subject, ev)
	if err != nil {
		return sent{}, err
	}
	future, err := p.js.PublishMsgAsync(msg, expect, jetstream.WithStallWait(stallWait),
		jetstream.WithRetryAttempts(publishTries), jetstream.WithRetryWait(publishPause))
	if err != nil {
		return sent{}, fmt.Errorf("publish to %s: %w", subject, err)
	}
	return sent{subject: subject, future: future}, nil
}

// wait returns the broker's word on one message.
func (s *sent) wait(ctx context.Context) (*jetstream.PubAck, error) {
	select {
	case ack := <-s.future.Ok():
		return ack, nil
	case err := <-s.future.Err():
		return nil, fmt.Errorf("publish to %s: %w", s.subject, err)
	case <-ctx.Done():
		return nil, fmt.Errorf("publish to %s: %w", s.subject, ctx.Err())
	}
}

// chain is what goes to one subject, in its order. Nearly always that is one result; a session that is retracted and one that begins with it are two.
type chain struct {
	query, subject string
	results        []*result
	events         []events.Event // of the results; made when they are about to be sent
	last           uint64         // the sequence of the last message that is stored of it
}

func (p *publisher) chains(names []string, results []result) []*chain {
	all := make([]*chain, 0, len(results))
	bySubject := make(map[string]*chain, len(results))
	for i := range results {
		r := &results[i]
		subject := p.subjects.Window(names[r.Query], r.Key, r.Start)
		c := bySubject[subject]
		if c == nil {
			c = &chain{query: names[r.Query], subject: subject}
			bySubject[subject] = c
			all = append(all, c)
		}
		c.results = append(c.results, r)
	}
	return all
}

// encode makes the events, if that was not done yet.
func (c *chain) encode() error {
	for i := len(c.events); i < len(c.results); i++ {
		ev, err := c.results[i].event(c.query)
		if err != nil {
			return err
		}
		c.events = append(c.events, ev)
	}
	return nil
}

// guess is the last sequence that the broker is expected to have on the subject, where that is known or can be guessed.
func (p *publisher) guess(c *chain) (last uint64, ok bool) {
	out, known := p.last[c.subject]
	first := c.results[0]
	switch {
	case !known && first.Revision > 1:
		return 0, false
	case known && first.Sequence <= out.cause: // the last: once more
		return 0, false
	}
	return out.sequence, true
}

// remember notes the last message of a subject whose window may come out again.
func (p *publisher) remember(c *chain) {
	if len(p.last) >= mostRemembered {
		clear(p.last)
	}
	if c.last > 0 {
		p.last[c.subject] = lastOut{sequence: c.last, cause: c.results[len(c.results)-1].Sequence}
	}
}

// store stores what of a chain is not there yet, and returns the sequence of its last message; 0 where all was there, or something newer.
func (p *publisher) store(ctx context.Context, c *chain) (uint64, error) {
	if err := c.encode(); err != nil {
		return 0, err
	}
	for try := 1; ; try++ {
		last, from, err := p.missing(ctx, c)
		if err != nil {
			return 0, err
		}
		if from == len(c.events) {
			return 0, nil
		}
		for ; err == nil && from < len(c.events); from++ {
			last, err = p.put(ctx, c.subject, c.events[from], last)
		}
		if err == nil || !isConflict(err) || try == mostTries {
			return last, err
		}
	}
}

func (p *publisher) put(ctx context.Context, subject string, ev events.Event, expect uint64) (uint64, error) {
	s, err := p.send(ctx, subject, ev, jetstream.WithExpectLastSequencePerSubject(expect))
	if err != nil {
		return 0, err
	}
	ack, err := s.wait(ctx)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// missing looks at a subject: the sequence of its last message, and which of the chain's results is the first that is not stored.
func (p *publisher) missing(ctx context.Context, c *chain) (last uint64, from int, err error) {
	m, err := lookup.Of(p.js, events.StreamWindows).FromLeader(ctx, lookup.Request{LastBySubject: c.subject})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look at %s: %w", c.subject, err)
	}
	there, err := resultIn(&m)
	if err != nil {
		return 0, 0, fmt.Errorf("%s, sequence %d of %s: %w: %w", c.subject, m.Sequence, events.StreamWindows, errForeign, err)
	}
	for i := range c.events {
		if c.events[i].ID == there.id {
			return m.Sequence, i + 1, nil
		}
	}
	if c.results[0].Sequence == 0 && there.Sequence == 0 { // of a record of 0.1.0, which gave each window one result
		return 0, 0, fmt.Errorf("%s, sequence %d of %s: %w", c.subject, m.Sequence, events.StreamWindows, errForeign)
	}
	// What came out of an earlier message of the log has been replaced; and what came out of the same one, by a backfill.
	for from < len(c.results) && c.results[from].Sequence <= there.Sequence {
		from++
	}
	return m.Sequence, from, nil
}

// storedResult is a result as WINDOWS has it.
type storedResult struct {
	events.WindowResult
	id string
}

func resultIn(m *jetstream.RawStreamMsg) (storedResult, error) {
	ev, err := events.Decode(events.Header(m.Header), m.Data)
	if err != nil {
		return storedResult{}, err
	}
	w, err := events.Payload[events.WindowResult](&ev)
	return storedResult{w, ev.ID}, err
}
