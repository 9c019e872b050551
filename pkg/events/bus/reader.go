package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// reader reads one durable consumer while it is this member's and it holds the pin, and stands by while another member holds it. It knows the protocol of
// ownership; what is done with the messages of a term is its work's.
type reader struct {
	js        jetstream.JetStream
	group     events.Group
	partition int
	consumer  string
	members   *membership
	seat      *seat // of this partition
	log       *slog.Logger
	metrics   *metrics
	most      int // messages asked for at once
	work      work

	ready     chan struct{}
	readyOnce sync.Once
}

// work is what a reader does with the messages that it owns.
type work interface {
	// stranded reports whether info, seen while nobody holds the pin, shows events that no message would wake us for, and where
	// to reset to (0: the ack floor) so that they come.
	stranded(ctx context.Context, info *jetstream.ConsumerInfo) (from uint64, yes bool, err error)
	// begin prepares a term and says where to reset to. first is the stream sequence of a message that was
	// sent to nobody before it came with the pin and was dropped; 0 for none.
	begin(ctx context.Context, first uint64) (from uint64, err error)
	// read handles messages until the term ends. It returns when nothing of the term runs any more.
	read(ctx context.Context, pull *puller) ending
	// vacant is told now and then, while the reader stands by, whether nobody holds the pin: it comes with a message, so a quiet partition has no owner after a restart.
	// With false, nothing of what it does runs any more when it returns.
	vacant(ctx context.Context, yes bool) error
	// settled waits, for a short time, until the broker has every acknowledgement of the term.
	settled(ctx context.Context) (*jetstream.ConsumerInfo, error)
}

// ending is why a term ended.
type ending int

const (
	endJump    ending = iota // the sequence broke: begin again
	endPinLost               // another member owns the partition, or may
	endStopped               // we are asked to stop, or the partition is another member's now
	endGone                  // the consumer is not there any more
)

func (e ending) String() string {
	return [...]string{"sequence broken", "pin lost", "stopped", "consumer gone"}[e]
}

var errConsumerGone = errors.New("the consumer does not exist any more")

const (
	requestTimeout = 2 * time.Second
	requestTries   = 4 // within requestTimeout: between two leaders nobody answers, and nothing says so
	releaseTimeout = 2 * time.Second
	orphanLook     = 5 * time.Second // between two looks at a partition that is another member's
)

// run reads until ctx ends: the partition while it is ours, and an orphan where it is not.
func (r *reader) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		turn, end := r.await(ctx)
		err := r.serve(turn)
		ended := turn.Err() != nil
		end()
		if err == nil || ended {
			failures = 0
			continue
		}
		failures++
		wait := backoff(failures, 100*time.Millisecond, 5*time.Second)
		r.log.WarnContext(ctx, "reading failed, trying again", "error", err, "wait", wait)
		sleep(ctx, wait)
	}
}

// serve stands by until the broker gives us the partition, and reads until it is lost or the turn ends.
func (r *reader) serve(turn context.Context) error {
	pin, first, err := r.standBy(turn)
	if err != nil || turn.Err() != nil {
		return err
	}
	return r.own(turn, pin, first)
}

// await waits until the partition is ours, or nobody's. The context that it returns ends with ctx, and when the partition goes to another member.
func (r *reader) await(ctx context.Context) (turn context.Context, end context.CancelFunc) {
	look := time.NewTicker(jitter(orphanLook))
	defer look.Stop()
	var before orphan
	for {
		decided, mine, turn, changed := r.seat.state()
		if mine {
			return during(ctx, turn)
		}
		if decided {
			r.readyOnce.Do(func() { close(r.ready) }) // another member reads it
		}
		select {
		case <-ctx.Done():
			return ctx, func() {}
		case <-changed:
		case <-look.C:
			now, yes := r.orphaned(ctx)
			if yes && now == before {
				r.log.WarnContext(ctx, "events wait and nobody reads the partition: reading it, though it is another member's")
				return during(ctx, turn)
			}
			before = now
		}
	}
}

// orphan is where a partition stands that nobody reads.
type orphan struct{ floor, delivered uint64 }

// orphaned reports whether events wait in a partition that nobody owns. It is so for a moment at each hand-over; it stays so where the member whose partition it is does not
// read, or has another view of whose it is, as one of another version may have.
func (r *reader) orphaned(ctx context.Context) (orphan, bool) {
	info, err := r.info(ctx)
	if err != nil { // look again later
		return orphan{}, false
	}
	return orphan{floor: info.AckFloor.Stream, delivered: info.Delivered.Stream}, pinned(info) == "" && (info.NumPending > 0 || info.NumAckPending > 0)
}

// standBy waits until the broker gives us the pin. It is given with a message, to the request that has waited longest while nobody held
// it. What a dead owner held would not wake anybody before AckWait, though, so while nobody holds the pin we look for that, and reset.
func (r *reader) standBy(ctx context.Context) (pin string, first uint64, err error) {
	pull, err := newPuller(r.js, r.group.Stream, r.consumer, "", 1, r.group.PinnedTTL)
	if err != nil {
		return "", 0, err
	}
	defer pull.stop()
	defer func() { _ = r.work.vacant(ctx, false) }() // ending it can't fail
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", 0, nil
		case <-look.C:
			if ctx.Err() != nil {
				continue
			}
			if err := r.look(ctx, pull); err != nil {
				return "", 0, err
			}
			look.Reset(jitter(r.group.PinnedTTL / 2))
		case m := <-pull.msgs:
			switch pull.read(m) {
			case answerGone:
				return "", 0, errConsumerGone
			case answerMessage:
				seq, err := sequencesOf(m)
				if err != nil {
					return "", 0, err
				}
				if seq.delivered > 1 {
					seq.stream = 0 // others were sent it before
				}
				return m.Header.Get(pinHeader), seq.stream, nil
			case answerNews, answerPinLost:
				if err := pull.want(1); err != nil {
					return "", 0, err
				}
			}
		}
	}
}

// look reads the consumer's state for stranded events, and asks for messages where the last request was lost.
func (r *reader) look(ctx context.Context, pull *puller) error {
	info, err := r.info(ctx)
	if err != nil {
		return err
	}
	if err := r.work.vacant(ctx, quiet(info)); err != nil {
		return err
	}
	if pinned(info) == "" {
		from, yes, err := r.work.stranded(ctx, info)
		if err != nil {
			return err
		}
		if yes {
			r.log.InfoContext(ctx, "nobody reads, events wait: resetting the consumer", "ack_floor", info.AckFloor.Stream, "delivered", info.Delivered.Stream)
			if err := r.reset(ctx, from); err != nil {
				return err
			}
		}
	}
	if pull.lost(time.Now()) {
		pull.forget()
	}
	if err := pull.want(1); err != nil {
		return err
	}
	r.readyOnce.Do(func() { close(r.ready) })
	return nil
}

// own reads term after term until the pin is lost or ctx ends.
func (r *reader) own(ctx context.Context, pin string, first uint64) error {
	r.log.DebugContext(ctx, "owns the partition", "pin", pin)
	r.members.owns(r.partition, pin)
	r.metrics.partitions.Add(ctx, 1, r.metrics.with)
	defer func() {
		r.metrics.partitions.Add(ctx, -1, r.metrics.with)
		r.members.owns(r.partition, "")
	}()
	quick := 0
	for {
		started := time.Now()
		end, err := r.term(ctx, pin, first)
		if err != nil {
			return err
		}
		first = 0
		switch end {
		case endStopped, endPinLost:
			r.log.DebugContext(ctx, "gave the partition up", "why", end.String())
			return nil
		case endGone:
			return errConsumerGone
		case endJump:
		}
		r.metrics.resets.add(ctx)
		r.log.InfoContext(ctx, "deliveries are not contiguous: starting over from the ack floor")
		if time.Since(started) > time.Second {
			quick = 0
			continue
		}
		quick++ // somebody else resets or reads without the pin: don't fight at full speed
		sleep(ctx, backoff(quick, 5*time.Millisecond, time.Second))
	}
}

// term is one reset and what is read until the sequence breaks.
func (r *reader) term(ctx context.Context, pin string, first uint64) (ending, error) {
	if ctx.Err() != nil {
		return endStopped, nil
	}
	// The keep-alive starts with the puller, so the pin outlives a slow begin. It asks for nothing before want.
	pull, err := newPuller(r.js, r.group.Stream, r.consumer, pin, r.most, r.group.PinnedTTL)
	if err != nil {
		return endJump, err
	}
	defer pull.stop()
	from, err := r.work.begin(ctx, first)
	if err != nil {
		return endJump, err
	}
	if err := r.reset(ctx, from); err != nil {
		return endJump, err
	}
	end := r.work.read(ctx, pull)
	if end == endStopped {
		pull.stop()
		r.release(ctx)
	}
	return end, nil
}

// release hands the partition over cleanly: acknowledgements are in, what we were sent but did not take is back in the broker, the pin is free.
func (r *reader) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	info, err := r.work.settled(ctx)
	if err == nil && info.Delivered.Stream > info.AckFloor.Stream {
		err = r.reset(ctx, 0)
	}
	if err == nil {
		err = r.unpin(ctx)
	}
	if err != nil { // the next owner finds out by itself, only later
		r.log.WarnContext(ctx, "could not hand the partition over", "error", err)
	}
}

// info reads the consumer's state from its leader.
func (r *reader) info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	var consumer jetstream.Consumer
	err := ask(ctx, func(ctx context.Context) (err error) {
		consumer, err = r.js.Consumer(ctx, r.group.Stream, r.consumer)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read consumer %s: %w", r.consumer, err)
	}
	return consumer.CachedInfo(), nil // just read
}

// reset moves the consumer back: to its ack floor, or to the sequence from. Pending deliveries are forgotten, consumer sequences start at 1.
func (r *reader) reset(ctx context.Context, from uint64) error {
	err := ask(ctx, func(ctx context.Context) (err error) {
		if from == 0 {
			_, err = r.js.ResetConsumer(ctx, r.group.Stream, r.consumer)
		} else {
			_, err = r.js.ResetConsumerToSequence(ctx, r.group.Stream, r.consumer, from)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("reset consumer %s: %w", r.consumer, err)
	}
	return nil
}

// ask asks the broker for something that may be asked twice, again where no answer comes.
func ask(ctx context.Context, once func(context.Context) error) (err error) {
	for range requestTries {
		try, cancel := context.WithTimeout(ctx, requestTimeout/requestTries)
		err = once(try)
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
	return err
}

// unpin frees the pin. The client library's call reads the stream's info first, which members need not be allowed to do.
func (r *reader) unpin(ctx context.Context) error {
	subject := lookup.APIPrefix(r.js) + "CONSUMER.UNPIN." + r.group.Stream + "." + r.consumer
	if _, err := r.js.Conn().RequestWithContext(ctx, subject, []byte(`{"group":"`+pinGroup+`"}`)); err != nil {
		return fmt.Errorf("unpin consumer %s: %w", r.consumer, err)
	}
	return nil
}

// pinned is the id of the pin, empty where nobody holds it.
func pinned(info *jetstream.ConsumerInfo) string {
	for _, g := range info.PriorityGroups {
		if g.Group == pinGroup {
			return g.PinnedClientID
		}
	}
	return ""
}

// settled waits until the ack floor has reached the sequence floor, for half a second at most, and returns the consumer's state.
func (r *reader) settled(ctx context.Context, floor uint64) (*jetstream.ConsumerInfo, error) {
	const tries = 12
	for i := 1; ; i++ {
		info, err := r.info(ctx)
		if err != nil || info.AckFloor.Stream >= floor || i == tries {
			return info, err
		}
		sleep(ctx, time.Duration(min(i, 5))*10*time.Millisecond)
	}
}
