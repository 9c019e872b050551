package analytics

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// A base is a snapshot of the engines, cut into messages. What a record can't do without is in the base that it names and in TIMELINE behind it.
//
// When is a new one due? Writing costs its bytes; not writing costs reading the events since the last one again after a restart. So a base is due when
// the events since the last one weigh as much as it would, and there is a least number, so that a small state is not written with every
// event. The state is 16 bytes for each event in an open window, and less for the rest: at 1,000 orders and 1,000 clicks a second that is 6 MB, written
// about twice a minute.
const (
	bytesPerEvent = 100 // what an event of the log weighs against a byte of state
	minEvents     = 100
	maxAge        = time.Minute // by store time: the base of a state that is small is never older than that while there are events
	maxAgeLarge   = time.Hour
	smallState    = 1 << 20
	partSize      = 128 << 10 // as small as this, since the broker takes the commit behind a part after it

	// The stream keeps 100 messages a subject, and parts are spread over subjects, so that each has room for six: the present one, the one that is being written, and
	// those that stopped writers left. A state may have 256 MiB, which is some ten million events in open windows. A larger one is not written: the last base
	// stays, and a restart reads more of TIMELINE.
	partsPerSubject = 16
	maxParts        = 2048
)

// due says whether a new base is worth its bytes, for a state of that size at a sequence and store time.
func (b *base) due(size int, sequence uint64, stored time.Time) bool {
	events := sequence - b.Sequence
	switch {
	case b.Parts == nil:
		return true
	case events == 0:
		return false
	case stored.Sub(b.Stored) >= maxAge && size <= smallState, stored.Sub(b.Stored) >= maxAgeLarge:
		return true
	}
	return events >= minEvents && events*bytesPerEvent >= uint64(size) //nolint:gosec // a length
}

var errTooLarge = errors.New("too large to be stored")

// keep stores bytes in parts and returns where they are. Parts that no record names do no harm. half, where it is set, is called when some of them are stored.
func (j *journal) keep(ctx context.Context, name string, data []byte, half func() error) (pieces, error) {
	if len(data) > maxParts*partSize {
		return pieces{}, fmt.Errorf("store %s: %w: %d bytes, at most %d", name, errTooLarge, len(data), maxParts*partSize)
	}
	digest := sha256.Sum256(data)
	kept := pieces{Size: len(data), Digest: hex.EncodeToString(digest[:])}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), partSize)
		subject := j.partSubject(name, len(kept.Parts))
		ack, err := j.publish(ctx, &nats.Msg{Subject: subject, Data: rest[:n]})
		if err != nil {
			return pieces{}, fmt.Errorf("store %s: %w", name, err)
		}
		kept.Parts = append(kept.Parts, ack.Sequence)
		rest = rest[n:]
		if half != nil && len(kept.Parts) == 1 {
			if err := half(); err != nil {
				return pieces{}, err
			}
		}
	}
	return kept, nil
}

// partSubject is where the part of that number goes.
func (j *journal) partSubject(name string, part int) string {
	return j.subjects.Commit(name, part/partsPerSubject)
}

func (j *journal) publish(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return j.js.PublishMsg(ctx, m)
}

// load reads what was kept.
func (j *journal) load(ctx context.Context, kept *pieces) ([]byte, error) {
	stream, err := j.stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("load parts: %w", err)
	}
	data := make([]byte, 0, kept.Size)
	for _, sequence := range kept.Parts {
		part, err := j.part(ctx, stream, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, fmt.Errorf("load parts: %w: part %d is not in %s any more", errState, sequence, events.StreamWindows)
		}
		if err != nil {
			return nil, fmt.Errorf("load parts: %w", err)
		}
		data = append(data, part...)
	}
	if digest := sha256.Sum256(data); hex.EncodeToString(digest[:]) != kept.Digest {
		return nil, fmt.Errorf("load parts: %w: digest differs", errState)
	}
	return data, nil
}

func (j *journal) stream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return j.js.Stream(ctx, events.StreamWindows)
}

// part reads one part. Any replica may answer, and one that is behind does not have it yet; so before it counts as gone, the leader is asked.
func (j *journal) part(ctx context.Context, stream jetstream.Stream, sequence uint64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg, err := stream.GetMsg(ctx, sequence)
	if err == nil {
		return msg.Data, nil
	}
	if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, err
	}
	m, err := lookup.Of(j.js, events.StreamWindows).FromLeader(ctx, lookup.Request{Sequence: sequence})
	return m.Data, err
}
