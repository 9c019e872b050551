package inventory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/fail"
	"github.com/tidemark/tidemark/pkg/events/store"
)

var (
	// ErrStopped: the service has stopped or is stopping.
	ErrStopped = errors.New("inventory has stopped")
	// ErrBusy: other instances won the warehouse's lock too often. Try again.
	ErrBusy = errors.New("the warehouse's lock was lost too often")
)

const (
	source = "/tidemark/inventory"

	queueLength   = 1024
	maxAttempts   = 30                    // with eight deciders at once, one attempt in about eight succeeds
	maxPause      = 50 * time.Millisecond // between attempts
	decideTimeout = 20 * time.Second      // deciding a batch with all attempts; below what a handler may take
	stopTime      = 2 * time.Second       // what is being decided when the service stops has so long to be stored
	maxLookups    = 16                    // at once
)

// request is one thing to decide, and where the answer goes.
type request struct {
	ctx     context.Context
	order   *orderEvent // one of these two
	receipt *receipt
	answer  chan answer // has room for the one answer
}

// answer is what came of a request.
type answer struct {
	stock    Stock // of a receipt
	repeated bool
	err      error
}

// decider is the one goroutine of an instance that appends to STOCK. Its callers hand in what they have and wait.
//
// While few wait, it decides and appends one after the other, which is quickest for each. When many wait, it decides all of them on one sketch
// of the state and appends them as one atomic batch, which costs one round trip for all. How many are many hangs on how the broker stores a batch: see [Config].
type decider struct {
	log       *store.Store
	subjects  events.Subjects
	live      *live
	telemetry bus.Telemetry
	metrics   *metrics
	batchFrom int // 0: by the stream's replicas
	maxBatch  int

	between  func(context.Context) // called between two decisions, when nothing is in the air
	appended bool                  // since the last snapshot: an instance that stands by leaves storing snapshots to the one that works

	queue chan *request
	done  chan struct{} // closed when run has ended
}

func (d *decider) orderEvent(ctx context.Context, e orderEvent) error {
	a := d.ask(ctx, &request{order: &e})
	return a.err
}

func (d *decider) receipt(ctx context.Context, r receipt) (Stock, bool, error) {
	a := d.ask(ctx, &request{receipt: &r})
	return a.stock, a.repeated, a.err
}

func (d *decider) ask(ctx context.Context, r *request) answer {
	r.ctx, r.answer = ctx, make(chan answer, 1)
	select {
	case d.queue <- r:
	case <-ctx.Done():
		return answer{err: fmt.Errorf("wait for the warehouse: %w", context.Cause(ctx))}
	case <-d.done:
		return answer{err: ErrStopped}
	}
	select {
	case a := <-r.answer:
		return a
	case <-ctx.Done(): // it may still be decided; asking again finds that
		return answer{err: fmt.Errorf("wait for the decision: %w", context.Cause(ctx))}
	case <-d.done:
		select {
		case a := <-r.answer:
			return a
		default:
			return answer{err: ErrStopped}
		}
	}
}

// run decides until ctx ends. What it has begun by then it finishes, unless the broker is away.
func (d *decider) run(ctx context.Context) {
	defer close(d.done)
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopTime, abandon) })()
	var waiting []*request
	for ctx.Err() == nil {
		d.between(work)
		if len(waiting) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-d.live.due:
				continue
			case r := <-d.queue:
				waiting = append(waiting, r)
			}
		}
		waiting = d.drain(waiting)
		n := d.together(work, len(waiting))
		d.settle(work, waiting[:n])
		waiting = append(waiting[:0], waiting[n:]...)
	}
}

const (
	batchOnReplicas  = 2
	batchOnOneServer = 100
)

// together is how many of the waiting requests to decide at once.
func (d *decider) together(ctx context.Context, waiting int) int {
	if waiting < 2 {
		return waiting
	}
	from := d.batchFrom
	if from == 0 {
		from = batchOnReplicas
		if d.log.OnOneServer(ctx) {
			from = min(batchOnOneServer, d.maxBatch)
		}
	}
	if waiting < from {
		return 1
	}
	return min(waiting, d.maxBatch)
}

// drain adds what waits, without waiting for more.
func (d *decider) drain(waiting []*request) []*request {
	for len(waiting) < d.maxBatch {
		select {
		case r := <-d.queue:
			waiting = append(waiting, r)
		default:
			return waiting
		}
	}
	return waiting
}

// settle answers all requests. A request whose decision can't be stored at all must not take its neighbours with it, so then each is tried alone.
func (d *decider) settle(ctx context.Context, batch []*request) {
	batch = stillWanted(batch)
	if len(batch) == 0 {
		return
	}
	answers, err := d.decide(ctx, batch)
	if err != nil && unstorable(err) && len(batch) > 1 {
		for i := range batch {
			d.settle(ctx, batch[i:i+1])
		}
		return
	}
	if unstorable(err) {
		err = fail.Permanent(err)
	}
	for i, r := range batch {
		if err != nil {
			r.answer <- answer{err: err}
			continue
		}
		r.answer <- answers[i]
	}
}

// stillWanted leaves out requests that nobody waits for any more.
func stillWanted(batch []*request) []*request {
	wanted := make([]*request, 0, len(batch))
	for _, r := range batch {
		if r.ctx.Err() == nil {
			wanted = append(wanted, r)
		}
	}
	return wanted
}

func unstorable(err error) bool {
	return errors.Is(err, events.ErrSchema) || errors.Is(err, events.ErrInvalidEvent) || errors.Is(err, events.ErrUnknownType) || errors.Is(err, nats.ErrMaxPayload)
}

// decide decides the requests on the state as it is and appends the decisions under the warehouse's lock. When somebody else appended first, everything is
// decided anew on the newer state: nothing of a refused batch is stored.
func (d *decider) decide(ctx context.Context, batch []*request) ([]answer, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	found := map[string]orderState{}
	for attempt := range maxAttempts {
		if attempt > 0 {
			pause(ctx, attempt)
		}
		p, err := d.plan(ctx, batch, found)
		if err != nil {
			return nil, err
		}
		if len(p.changes) == 0 {
			d.report(ctx, p)
			return p.answers, nil
		}
		err = d.append(ctx, p)
		switch {
		case err == nil:
			d.report(ctx, p)
			return p.answers, nil
		case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrUnknownOutcome):
			// An append of unknown outcome that still is on its way can't do harm: it expects the same last sequence as the next try, and the
			// broker takes one of them.
			d.metrics.conflict(ctx)
			if err := d.live.catchUp(ctx, d.log, p.position); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	return nil, fmt.Errorf("decide %d requests: %w: %d times", len(batch), ErrBusy, maxAttempts)
}

// append stores the plan and folds it. Success may also mean that the broker knew the events: another instance made the same decisions and was
// quicker. Then they need not stand where the plan has them, and the log says where they stand.
func (d *decider) append(ctx context.Context, p *plan) error {
	last, err := d.log.AppendAt(ctx, p.position, p.writes...)
	if err != nil {
		return err
	}
	d.appended = true
	if last != p.position+uint64(len(p.writes)) {
		return d.live.catchUp(ctx, d.log, last-1)
	}
	for i, c := range p.changes {
		if err := d.live.fold(p.position+uint64(i)+1, p.writes[i].Event.ID, c); err != nil {
			return err
		}
	}
	return nil
}

// pause waits a random time, longer from attempt to attempt, so that deciders that lost to each other don't meet again.
func pause(ctx context.Context, attempt int) {
	limit := min(time.Duration(attempt)*2*time.Millisecond, maxPause)
	timer := time.NewTimer(rand.N(limit)) //nolint:gosec // spreading, not secrecy
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
