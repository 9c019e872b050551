package bus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// partition reads one partition of a group: it holds the reading rule (see doc.go) and what a term knows.
type partition struct {
	reader   *reader
	group    events.Group
	number   int
	template string
	log      *slog.Logger
	metrics  *metrics
	tracing  tracing
	letters  *letters
	breaker  *breaker
	jobs     *jobs
	who      identity
	registry *events.Registry // upcasts what is read
	schemas  *events.Registry // checks it; nil where the handler does

	handler    Handler
	timeout    time.Duration
	retries    []time.Duration
	inPlace    time.Duration // the longest wait for a retry that holds a lane
	drainTime  time.Duration
	quarantine *Quarantine

	window *window
	lanes  *lanes
	gate   *gate
	next   uint64              // consumer sequence of the last message accepted
	high   uint64              // newest event that anybody may have handled before this term
	taken  []*task             // accepted, and not given to the lanes yet
	redone map[uint64]struct{} // handled by us in an earlier term, above the ack floor: the broker sends them again

	continues bool          // the last term ended with a broken sequence: nobody else has had the partition since, as far as we know
	owned     bool          // this process has had a term before
	suspicion *suspicion    // of a message that kills its owners; nil in quiet times
	acquitted atomic.Bool   // the last suspect is done
	inner     *termWork     // work of the term that no message brings
	caring    func()        // ends the work on letters of a partition without an owner; nil: there is none
	looked    bool          // no owner was found, and letters were looked for once
	lost      chan struct{} // tells the term that another member owns the partition

	life     context.Context // of handlers: ends when a member that stops, or gives the partition to another, has no more time
	endLife  context.CancelCauseFunc
	patience context.Context // of waits between tries: ends with the term
}

var errStopping = errors.New("the member of the consumer group stops")

// stranded: what a dead owner was sent and did not acknowledge would come only after AckWait.
func (p *partition) stranded(_ context.Context, info *jetstream.ConsumerInfo) (uint64, bool, error) {
	yes := info.NumAckPending > 0
	if yes {
		p.high = max(p.high, info.Delivered.Stream) // the reset makes the broker forget it
	}
	return 0, yes, nil
}

// begin notes the suspects (what was delivered above the ack floor, and so may have been handled) and makes the term's state.
func (p *partition) begin(ctx context.Context, first uint64) (uint64, error) {
	floor, accepted := p.window.bounds()
	info, err := p.reader.settled(ctx, floor)
	if err != nil {
		return 0, err
	}
	delivered := info.Delivered.Stream
	if first != 0 && delivered == first {
		delivered-- // only the message that brought the pin, which nobody handled
		if info.NumAckPending == 1 {
			delivered = info.AckFloor.Stream // and nothing was sent before it that is not settled
		}
	}
	p.high = max(p.high, accepted, delivered)
	for _, seq := range p.window.reset(info.AckFloor.Stream) {
		p.redone[seq] = struct{}{}
	}
	if info.AckFloor.Stream < floor { // an operator moved the group back, to handle again what was handled
		p.log.InfoContext(ctx, "the group was moved back", "from", floor, "to", info.AckFloor.Stream)
		p.gate.open()
		clear(p.redone)
	}
	for seq := range p.redone {
		if seq <= info.AckFloor.Stream {
			delete(p.redone, seq)
		}
	}
	p.next = 0
	p.openTerm()
	if err := p.letters.begin(ctx, p.inner); err != nil {
		return 0, err
	}
	if p.continues {
		return 0, nil
	}
	return 0, p.suspect(ctx, info.AckFloor.Stream)
}

// openTerm makes what a term needs; nothing of the last one runs any more.
func (p *partition) openTerm() {
	p.inner = &termWork{lanes: p.lanes}
	p.lost = make(chan struct{}, 1)
}

// startTending begins the work on letters. rest waits for its end, when the term and its lanes have ended.
func (p *partition) startTending(term context.Context) (rest func()) {
	var tending sync.WaitGroup
	tending.Go(func() { p.tend(term) })
	return func() {
		tending.Wait()
		p.letters.locked.end()
	}
}

// clerkTerm works on letters for the term of a reader that has no lanes of its own.
func (p *partition) clerkTerm(ctx, life context.Context, endLife context.CancelCauseFunc) (end func()) {
	p.life, p.endLife = life, endLife
	patience, stop := context.WithCancel(life)
	p.patience = patience
	rest := p.startTending(patience)
	return func() {
		stop()
		p.inner.end()
		p.lanes.forget()
		p.awaitLanes(ctx)
		rest()
	}
}

// vacant works on the letters of a partition that has no owner because no event comes. Another member that does the same, or that becomes the owner meanwhile, finds
// the letters' own locks changed and looks again; a new owner of our own waits until we are done.
func (p *partition) vacant(ctx context.Context, yes bool) error {
	if p.caring != nil && (!yes || len(p.lost) > 0) {
		p.caring()
		p.caring = nil
	}
	if !yes {
		p.looked = false
		return nil
	}
	if p.caring != nil || p.looked && !p.jobs.concern(p.number) {
		return nil
	}
	p.openTerm()
	if err := p.letters.begin(ctx, p.inner); err != nil {
		return err
	}
	p.looked = true
	if len(p.letters.locked.all()) == 0 && !p.jobs.concern(p.number) {
		return nil
	}
	life, endLife := context.WithCancelCause(context.WithoutCancel(ctx))
	end := p.clerkTerm(ctx, life, endLife)
	p.caring = func() {
		end()
		endLife(nil)
	}
	return nil
}

// lose ends the term: what this member knows of the partition's letters is not so any more.
func (p *partition) lose() {
	select {
	case p.lost <- struct{}{}:
	default:
	}
}

func (p *partition) settled(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	floor, _ := p.window.bounds()
	return p.reader.settled(ctx, floor)
}

// read accepts messages and hands them to the lanes until the term ends.
func (p *partition) read(ctx context.Context, pull *puller) ending {
	p.life, p.endLife = context.WithCancelCause(context.WithoutCancel(ctx)) // nothing runs now that could read it
	defer p.endLife(nil)
	patience, end := context.WithCancel(p.life)
	p.patience = patience
	defer end()
	rest := p.startTending(patience)
	why := p.accept(ctx, pull)
	// A stopping member finishes what it has accepted, so that the next owner finds no gap above the ack floor. What waits for a retry is given back.
	end()
	p.inner.end()
	if why != endStopped {
		p.lanes.forget()
	}
	p.awaitLanes(ctx)
	rest()
	p.continues, p.owned = why == endJump, true
	return why
}

// awaitLanes waits for running handlers; when the member stops, no longer than it has time. A handler that ignores its context keeps the
// partition: two calls for one key must not run at once.
func (p *partition) awaitLanes(ctx context.Context) {
	idle, stop := p.lanes.done(), ctx.Done()
	var drained <-chan time.Time
	late := time.NewTicker(p.timeout + time.Second)
	defer late.Stop()
	for {
		select {
		case <-idle:
			return
		case <-stop:
			stop, drained = nil, time.After(p.drainTime)
		case <-drained:
			p.lanes.forget()
			p.endLife(errStopping)
		case <-late.C:
			p.log.WarnContext(p.life, "a handler runs longer than its time limit and ignores its context; the partition waits for it")
		}
	}
}

// accept is the inner loop of a term.
func (p *partition) accept(ctx context.Context, pull *puller) ending {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := pull.want(p.room(pull.most)); err != nil {
			p.log.DebugContext(ctx, "not asked for messages", "error", err)
		}
		select {
		case m := <-pull.msgs:
			if why, over := p.takeWaiting(pull, m); over {
				return why
			}
		case <-p.window.room:
		case <-p.lost:
			return endPinLost
		case now := <-tick.C:
			if pull.lost(now) {
				return endJump
			}
		case <-ctx.Done():
			return endStopped
		}
	}
}

// room is how many more events may be asked for. While the group pauses, that is none, but for one event to probe with where a new term has none: the events of the term before
// were given back, and nobody would find out that what failed is well again.
func (p *partition) room(most int) int {
	free := p.window.free(most)
	switch {
	case p.letters.refused.Load() > 0:
		return 0
	case !p.breaker.open.Load():
		return free
	case free == p.window.size():
		return 1
	}
	return 0
}

// takeWaiting takes m and what waits behind it, up to a number: after it the loop looks at the rest of the world again. The lanes get all of it in one go: to hand over each by
// itself wakes a lane for one event, and has both sides wait for each other's locks.
func (p *partition) takeWaiting(pull *puller, m *nats.Msg) (why ending, over bool) {
	const most = 32
	defer p.handOver()
	for n := 1; ; n++ {
		if why, over = p.take(pull, m); over || n == most || len(pull.msgs) == 0 {
			return why, over
		}
		m = <-pull.msgs // nobody else receives from it
	}
}

// take judges one message by the reading rule.
func (p *partition) take(pull *puller, m *nats.Msg) (why ending, over bool) {
	switch pull.read(m) {
	case answerPinLost:
		return endPinLost, true
	case answerGone:
		return endGone, true
	case answerNews:
		return 0, false
	case answerMessage:
	}
	seq, err := sequencesOf(m)
	if err != nil || seq.consumer != p.next+1 || p.next == 0 && p.movedBack(seq) {
		return endJump, true // not acknowledged: it comes again after the reset
	}
	if seq.delivered > 1 {
		return p.redelivered(m, seq)
	}
	p.next = seq.consumer
	t := newTask(p.registry, m, seq, p.group.Stream, p.number)
	p.tracing.receive(t)
	t.delivery.Repeated = seq.stream <= p.high
	t.solo = p.suspicion != nil && !p.acquitted.Load()
	if _, ours := p.redone[seq.stream]; ours {
		delete(p.redone, seq.stream)
		p.metrics.duplicates.add(p.life)
		p.handOver()
		p.window.add(t)
		p.settle(t)
		return 0, false
	}
	p.taken = append(p.taken, t)
	return 0, false
}

// handOver gives the lanes what was taken.
func (p *partition) handOver() {
	if len(p.taken) == 0 {
		return
	}
	p.window.add(p.taken...)
	p.lanes.add(p.taken...)
	clear(p.taken)
	p.taken = p.taken[:0]
}

// movedBack: the first event of a term is done already, so an operator has moved the group back since the term began.
func (p *partition) movedBack(seq sequences) bool {
	done, _ := p.window.known(seq.stream)
	return done
}

// redelivered judges what the broker sends a second time within a term, because AckWait passed or an acknowledgement was lost.
func (p *partition) redelivered(m *nats.Msg, seq sequences) (why ending, over bool) {
	p.handOver() // it may be among them
	done, inFlight := p.window.known(seq.stream)
	switch {
	case done:
		p.metrics.duplicates.add(p.life)
		if err := m.Ack(); err != nil {
			p.log.DebugContext(p.life, "acknowledgement not sent", "error", err, "sequence", seq.stream)
		}
	case inFlight: // its handler will acknowledge it
	default:
		return endJump, true
	}
	p.next = seq.consumer
	return 0, false
}

// quiet reports whether nobody owns a partition, and no event would bring it an owner.
func quiet(info *jetstream.ConsumerInfo) bool {
	return pinned(info) == "" && info.NumAckPending == 0 && info.NumPending == 0
}
