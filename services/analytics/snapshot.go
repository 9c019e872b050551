package analytics

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidemark/tidemark/pkg/window"
	"github.com/tidemark/tidemark/services/analytics/lateness"
)

const (
	stateVersion = 3
	stateV1      = 1 // of 0.1.0: all queries at one sequence, and nothing held
	stateV2      = 2 // without lateness
)

var errState = errors.New("invalid base")

// size is about how long snapshot would be.
func (s *state) size() int {
	n := 64
	for _, r := range s.running {
		n += r.engine.Size() + len(r.Name) + 48 + len(r.held)*perResult + r.lateness.Size()
	}
	return n
}

// snapshot writes the state: version, sequence, unreadable, then for each query its name, sequence, unreadable, cut, engine, what is held and how late events were, with
// lengths before them.
func (s *state) snapshot() []byte {
	b := s.appendHeader(make([]byte, 0, s.size()))
	for _, r := range s.running {
		b = r.append(b)
	}
	return b
}

func (s *state) appendHeader(b []byte) []byte {
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, s.sequence)
	b = binary.AppendUvarint(b, s.unreadable)
	return binary.AppendUvarint(b, uint64(len(s.running)))
}

func (r *running) append(b []byte) []byte { return r.freeze()(b) }

// freeze copies what would change. The function that it returns appends it, in any goroutine.
func (r *running) freeze() (write func([]byte) []byte) {
	head := appendBytes(nil, []byte(r.Name))
	head = binary.AppendUvarint(head, r.sequence)
	head = binary.AppendUvarint(head, r.unreadable)
	head = binary.AppendUvarint(head, r.cut)
	engine := r.engine.Freeze()
	var held []byte
	if len(r.held) > 0 {
		held, _ = json.Marshal(r.held) // numbers and texts: it does not fail
	}
	tail := appendBytes(appendBytes(nil, held), r.lateness.Snapshot())
	return func(b []byte) []byte {
		b = appendBytes(append(b, head...), engine())
		return append(b, tail...)
	}
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// snapshotReader keeps its first failure; what is read after it is zero.
type snapshotReader struct {
	*bytes.Reader
	err error
}

func (r *snapshotReader) number() uint64 {
	v, err := binary.ReadUvarint(r)
	r.err = errors.Join(r.err, err)
	return v
}

func (r *snapshotReader) text() []byte {
	n := r.number()
	if n > uint64(r.Len()) { //nolint:gosec // a length
		r.err = errors.Join(r.err, errors.New("ends too early"))
		return nil
	}
	v := make([]byte, n)
	_, _ = r.Read(v)
	return v
}

// restoreState goes on from a snapshot. A query that the snapshot does not have has read nothing; one that is not asked for any more is forgotten.
func restoreState(p *plan, snapshot []byte) (*state, error) {
	s, err := newState(p)
	if err != nil {
		return nil, err
	}
	r := &snapshotReader{Reader: bytes.NewReader(snapshot)}
	version, err := r.ReadByte()
	if err != nil || version < stateV1 || version > stateVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errState, version, stateVersion)
	}
	s.sequence, s.unreadable = r.number(), r.number()
	for range r.number() {
		name := string(r.text())
		one := &running{sequence: s.sequence, cut: s.sequence}
		if version != stateV1 {
			one.sequence = r.number()
		}
		one.unreadable = r.number()
		if version != stateV1 {
			one.cut = r.number()
		}
		engine := r.text()
		if version != stateV1 {
			if held := r.text(); len(held) > 0 {
				r.err = errors.Join(r.err, json.Unmarshal(held, &one.held))
			}
		}
		var meter []byte
		if version > stateV2 {
			meter = r.text()
		}
		if r.err != nil {
			return nil, fmt.Errorf("%w: %w", errState, r.err)
		}
		if err := s.adopt(name, one, engine, meter); err != nil {
			return nil, err
		}
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", errState, r.err)
	}
	return s, nil
}

// adopt takes over what a snapshot says of one query.
func (s *state) adopt(name string, was *running, engine, meter []byte) (err error) {
	for _, r := range s.running {
		if r.Name != name {
			continue
		}
		if r.engine, err = window.Restore(r.config(), engine); err != nil {
			return fmt.Errorf("query %s: %w", name, err)
		}
		if meter != nil {
			if r.lateness, err = lateness.Restore(r.settings.waits(), meter); err != nil {
				return fmt.Errorf("%w: query %s: %w", errState, name, err)
			}
		}
		r.sequence, r.unreadable, r.cut, r.held = was.sequence, was.unreadable, was.cut, was.held
		r.given = r.engine.Counts().Read() + r.unreadable
	}
	return nil
}
