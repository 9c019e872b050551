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
	maxAge        = time.Minute // by store time: an idle instance's base is never older than that
	partSize      = 512 << 10

	// The stream keeps 100 messages a subject. Two bases and one that a stopped writer left must fit: the state may have 16 MiB, which is a million events in open
	// windows. A larger state is not written: the last base stays, and a restart reads more of TIMELINE.
	maxParts = 32
)

// due says whether a new base is worth its bytes, for a state of that size at a sequence and store time.
func (b *base) due(size int, sequence uint64, stored time.Time) bool {
	events := sequence - b.Sequence
	switch {
	case b.Parts == nil:
		return true
	case events == 0:
		return false
	case stored.Sub(b.Stored) >= maxAge:
		return true
	}
	return events >= minEvents && events*bytesPerEvent >= uint64(size) //nolint:gosec // a length
}

var errTooLarge = errors.New("the open windows are too many for a base")

// store writes a snapshot and returns what a record says of it. Parts that no record names do no harm.
func (j *journal) store(ctx context.Context, sequence uint64, stored time.Time, snapshot []byte) (base, error) {
	if len(snapshot) > maxParts*partSize {
		return base{}, fmt.Errorf("store base: %w: %d bytes, at most %d", errTooLarge, len(snapshot), maxParts*partSize)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	digest := sha256.Sum256(snapshot)
	b := base{Sequence: sequence, Stored: stored, Size: len(snapshot), Digest: hex.EncodeToString(digest[:])}
	for rest := snapshot; len(rest) > 0; {
		n := min(len(rest), partSize)
		ack, err := j.js.PublishMsg(ctx, &nats.Msg{Subject: j.parts, Data: rest[:n]})
		if err != nil {
			return base{}, fmt.Errorf("store base: %w", err)
		}
		b.Parts = append(b.Parts, ack.Sequence)
		rest = rest[n:]
	}
	return b, nil
}

// load reads a base's snapshot.
func (j *journal) load(ctx context.Context, b *base) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, events.StreamWindows)
	if err != nil {
		return nil, fmt.Errorf("load base: %w", err)
	}
	snapshot := make([]byte, 0, b.Size)
	for _, sequence := range b.Parts {
		data, err := j.part(ctx, stream, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, fmt.Errorf("load base: %w: part %d is not in %s any more", errState, sequence, events.StreamWindows)
		}
		if err != nil {
			return nil, fmt.Errorf("load base: %w", err)
		}
		snapshot = append(snapshot, data...)
	}
	if digest := sha256.Sum256(snapshot); hex.EncodeToString(digest[:]) != b.Digest {
		return nil, fmt.Errorf("load base: %w: digest differs", errState)
	}
	return snapshot, nil
}

// part reads one part. Any replica may answer, and one that is behind does not have it yet; so before it counts as gone, the leader is asked.
func (j *journal) part(ctx context.Context, stream jetstream.Stream, sequence uint64) ([]byte, error) {
	msg, err := stream.GetMsg(ctx, sequence)
	if err == nil {
		return msg.Data, nil
	}
	if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, err
	}
	_, data, err := fromLeader(ctx, j.js, events.StreamWindows, fmt.Sprintf(`{"seq":%d}`, sequence))
	return data, err
}
