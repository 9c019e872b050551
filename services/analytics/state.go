package analytics

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
)

// state is everything that the log up to one sequence amounts to. It is pure: the same log gives the same state.
type state struct {
	sequence   uint64 // the last of TIMELINE whose effect is in
	unreadable uint64 // events that could not be read, whether or not a query would have taken them
	running    []*running
}

// running is one query at work.
type running struct {
	query      query
	engine     *window.Engine
	unreadable uint64 // events of its types that could not be read
}

func newState(qs []query) (*state, error) {
	s := &state{}
	for _, q := range qs {
		e, err := window.New(q.window)
		if err != nil {
			return nil, fmt.Errorf("query %s: %w", q.name, err)
		}
		s.running = append(s.running, &running{query: q, engine: e})
	}
	return s, nil
}

// apply takes one delivery, appends what comes out of it, and reports whether it changed more than the sequence. What was applied before is
// passed over.
func (s *state) apply(d *bus.Delivery, out *outputs) (changed bool, err error) {
	if d.Sequence <= s.sequence {
		return false, nil
	}
	if d.Err != nil {
		s.sequence = d.Sequence
		s.unreadable++
		for _, r := range s.running {
			if r.query.takes(d.Event.Type) {
				r.unreadable++
			}
		}
		return true, nil
	}
	for i, r := range s.running {
		if !r.query.takes(d.Event.Type) {
			continue
		}
		key, value, err := r.query.read(&d.Event)
		if err != nil { // check has read it before
			return changed, fmt.Errorf("query %s, sequence %d: %w", r.query.name, d.Sequence, err)
		}
		changed = true
		before, started := r.engine.Watermark()
		outcome := r.engine.Apply(window.Event{ID: identity(&d.Event), Key: key, Time: d.Event.Time.UnixMilli(), Stored: d.StoredAt.UnixMilli(), Value: value})
		for _, result := range outcome.Results {
			out.Results = append(out.Results, resultOf(i, result))
		}
		if outcome.Verdict.Late() {
			out.Late = append(out.Late, lateOf(i, d, outcome, before, started))
		}
	}
	s.sequence = d.Sequence
	return changed, nil
}

// identity is what makes two events the same: source and id together, as CloudEvents says. Two producers may both count from 1.
func identity(ev *events.Event) string {
	return strconv.Itoa(len(ev.Source)) + ":" + ev.Source + ev.ID
}

// size is about how long snapshot would be.
func (s *state) size() int {
	n := 64
	for _, r := range s.running {
		n += r.engine.Size() + len(r.query.name) + 32
	}
	return n
}

const stateVersion = 1

var errState = errors.New("invalid base")

// snapshot writes the state: version, sequence, unreadable, then for each query its name, unreadable and engine, with lengths before them.
func (s *state) snapshot() []byte {
	b := make([]byte, 0, s.size())
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, s.sequence)
	b = binary.AppendUvarint(b, s.unreadable)
	b = binary.AppendUvarint(b, uint64(len(s.running)))
	for _, r := range s.running {
		b = appendBytes(b, []byte(r.query.name))
		b = binary.AppendUvarint(b, r.unreadable)
		b = appendBytes(b, r.engine.Snapshot())
	}
	return b
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// restoreState goes on from a snapshot. A query that the snapshot does not have starts empty; one that is not asked for any more is forgotten.
func restoreState(qs []query, snapshot []byte) (*state, error) {
	s, err := newState(qs)
	if err != nil {
		return nil, err
	}
	r := bytes.NewReader(snapshot)
	if v, err := r.ReadByte(); err != nil || v != stateVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errState, v, stateVersion)
	}
	var readErr error
	number := func() uint64 {
		v, err := binary.ReadUvarint(r)
		readErr = errors.Join(readErr, err)
		return v
	}
	text := func() []byte {
		n := number()
		if n > uint64(r.Len()) { //nolint:gosec // a length
			readErr = errors.Join(readErr, errors.New("ends too early"))
			return nil
		}
		v := make([]byte, n)
		_, _ = r.Read(v)
		return v
	}
	s.sequence, s.unreadable = number(), number()
	for range number() {
		name, unreadable, engine := string(text()), number(), text()
		if readErr != nil {
			return nil, fmt.Errorf("%w: %w", errState, readErr)
		}
		for _, to := range s.running {
			if to.query.name != name {
				continue
			}
			if to.engine, err = window.Restore(to.query.window, engine); err != nil {
				return nil, fmt.Errorf("query %s: %w", name, err)
			}
			to.unreadable = unreadable
		}
	}
	if readErr != nil {
		return nil, fmt.Errorf("%w: %w", errState, readErr)
	}
	return s, nil
}
