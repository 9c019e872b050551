package check

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// letters are what is known of dead letters: what is parked now, and what was given up.
type letters struct {
	keys map[string]bool // with a letter, of whichever group

	parked    map[eventOf]bool // what a group has not handled yet
	discarded map[eventOf]bool // what it never will, by the word of an operator
	count     int              // letters that are parked
	orders    struct {         // letters of analytics that may be of an order.placed
		parked, discarded int
	}

	stuck   []stuck
	removed int // letters that are gone from DLQ
	closed  int // of these, those whose end is on record
}

// eventOf is an event of an aggregate, as a group reads it.
type eventOf struct {
	group, key string
	version    uint64
}

// stuck is the first letter of a key, which waits for an earlier one that is not there.
type stuck struct {
	id    string
	since time.Time
}

// dead reads the dead letters. How many were removed is asked first: a letter's end is on record before it is removed, so all that were removed by then must have one.
func (c *checker) dead(ctx context.Context) (letters, error) {
	l := letters{keys: make(map[string]bool), parked: make(map[eventOf]bool), discarded: make(map[eventOf]bool)}
	stream, err := c.sys.js.Stream(ctx, events.StreamDLQ)
	if err != nil {
		return l, fmt.Errorf("read DLQ: %w", err)
	}
	state := stream.CachedInfo().State
	l.removed = int(state.LastSeq - min(state.LastSeq, state.Msgs)) //nolint:gosec // a count of letters
	store := deadletter.New(c.sys.js, c.cfg.Topology.Subjects())
	there, err := c.readParked(ctx, store, &l)
	if err != nil {
		return l, err
	}
	return l, c.readClosed(ctx, store, there, &l)
}

// readParked reads the letters that are there, and returns their sequences.
func (c *checker) readParked(ctx context.Context, store *deadletter.Store, l *letters) (map[uint64]bool, error) {
	there := make(map[uint64]bool)
	type place struct {
		group     string
		partition int
		key       string
	}
	heads := make(map[place]bool)
	for letter, err := range store.Letters(ctx, deadletter.Filter{}) {
		if err != nil {
			return nil, err
		}
		there[letter.Sequence] = true
		if letter.Current.State.Closed() {
			continue // about to be removed
		}
		l.count++
		l.keys[letter.Key] = true
		l.parked[eventOf{letter.Group, letter.Key, letter.KeyVersion}] = true
		if letter.Group == events.GroupAnalytics && (letter.EventType == events.TypeOrderPlaced || letter.EventType == "") {
			l.orders.parked++
		}
		at := place{letter.Group, letter.Partition, letter.Key}
		if !heads[at] && letter.Current.State == deadletter.StateBlocked {
			l.stuck = append(l.stuck, stuck{id: letter.ID, since: latest(letter.ParkedAt, letter.Current.At)})
		}
		heads[at] = true
	}
	return there, nil
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// readClosed reads how the letters ended that are not there any more.
func (c *checker) readClosed(ctx context.Context, store *deadletter.Store, there map[uint64]bool, l *letters) error {
	ends := make(map[uint64]deadletter.State)
	given := make(map[string]bool) // up, by id
	for e, err := range store.Entries(ctx) {
		if err != nil {
			return err
		}
		if e.State.Closed() && !there[e.LetterSequence] {
			ends[e.LetterSequence] = e.State
		}
		given[e.Letter] = e.State == deadletter.StateDiscarded // the last word: an event may be parked again after its group was moved back
	}
	l.closed = len(ends)
	for id, discarded := range given {
		if !discarded {
			continue
		}
		if err := c.discarded(ctx, id, l); err != nil {
			return err
		}
	}
	return nil
}

// discarded finds out which event a letter was about that was given up.
func (c *checker) discarded(ctx context.Context, id string, l *letters) error {
	group, ok := deadletter.GroupOfID(id)
	parts := strings.Split(id, ":")
	if !ok || len(parts) != 3 {
		return nil
	}
	sequence, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil {
		return nil //nolint:nilerr // no id of ours
	}
	stream, err := c.sys.js.Stream(ctx, parts[1])
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", parts[1], err)
	}
	m, err := stream.GetMsg(ctx, sequence)
	gone := errors.Is(err, jetstream.ErrMsgNotFound) // expired
	if err != nil && !gone {
		return fmt.Errorf("read %s %d: %w", parts[1], sequence, err)
	}
	if group == events.GroupAnalytics && (gone || m.Header.Get("ce-type") == events.TypeOrderPlaced) {
		l.orders.discarded++
	}
	if gone {
		return nil
	}
	ev, err := c.read.registry.Decode(events.Header(m.Header), m.Data)
	if err != nil {
		return nil //nolint:nilerr // what can't be read is nothing that an aggregate waits for
	}
	l.discarded[eventOf{group, ev.Subject, ev.Version}] = true
	return nil
}
