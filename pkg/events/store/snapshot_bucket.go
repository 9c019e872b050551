package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// SnapshotBucket keeps one snapshot of each aggregate: the last message of the aggregate's key in a key-value bucket, so that reading one costs the same however many
// there are. It is safe for use by many goroutines and by many aggregates.
//
// It is a cache, and nobody depends on it. Snapshots are written in the background, one at a time; what comes meanwhile is left out and gets its turn at a later load.
// When the bucket can't be read, it is not asked again for a few seconds.
type SnapshotBucket struct {
	bucket    jetstream.KeyValue
	log       *slog.Logger
	snapshots metric.Int64Counter
	outcomes  map[snapshotOutcome]metric.AddOption

	writer  chan struct{} // holds the right to write
	rested  atomic.Int64  // Unix nanoseconds; before that, nothing is read
	noticed atomic.Int64  // Unix nanoseconds of the last complaint in the log
}

const (
	snapshotReadLimit  = 500 * time.Millisecond // longer than that, folding the log is better
	snapshotWriteLimit = 5 * time.Second
	snapshotRest       = 5 * time.Second // after a failed read
	snapshotNotice     = time.Minute     // between two complaints
)

// snapshotOutcome is the attribute "outcome" of the metric tidemark.store.snapshots.
type snapshotOutcome string

const (
	snapshotUsed      snapshotOutcome = "used"
	snapshotAbsent    snapshotOutcome = "absent"
	snapshotOtherFold snapshotOutcome = "other_fold" // of another version of the fold or of the state
	snapshotNotInLog  snapshotOutcome = "not_in_log" // of events that the log does not hold: one of the two was restored
	snapshotDamaged   snapshotOutcome = "damaged"
	snapshotUnread    snapshotOutcome = "unread" // the broker did not answer
	snapshotWritten   snapshotOutcome = "written"
	snapshotLeftOut   snapshotOutcome = "left_out"  // another one was being written
	snapshotUnwritten snapshotOutcome = "unwritten" // refused, or not answered
	snapshotLossy     snapshotOutcome = "lossy"     // the state does not come back as it was
)

// NewSnapshotBucket opens a key-value bucket, which should have a history of 1.
func NewSnapshotBucket(ctx context.Context, js jetstream.JetStream, bucket string, telemetry bus.Telemetry) (*SnapshotBucket, error) {
	opened, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", bucket, err)
	}
	telemetry = telemetry.OrNothing()
	b := &SnapshotBucket{bucket: opened, log: telemetry.Logger.With("bucket", bucket), writer: make(chan struct{}, 1), outcomes: make(map[snapshotOutcome]metric.AddOption)}
	b.snapshots, err = telemetry.Meter.Meter(scope).Int64Counter("tidemark.store.snapshots", metric.WithUnit("{snapshot}"),
		metric.WithDescription("snapshots of aggregates that were looked for and written, by how that ended"))
	if err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", bucket, err)
	}
	for _, o := range []snapshotOutcome{
		snapshotUsed, snapshotAbsent, snapshotOtherFold, snapshotNotInLog, snapshotDamaged, snapshotUnread, snapshotWritten, snapshotLeftOut, snapshotUnwritten, snapshotLossy,
	} {
		b.outcomes[o] = metric.WithAttributeSet(attribute.NewSet(attribute.String("tidemark.bucket", bucket), attribute.String("outcome", string(o))))
	}
	b.writer <- struct{}{}
	return b, nil
}

// Flush waits until the snapshot that is being written is stored, or has failed.
func (b *SnapshotBucket) Flush(ctx context.Context) error {
	select {
	case <-b.writer:
		b.writer <- struct{}{}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush snapshots: %w", ctx.Err())
	}
}

// read returns the entry of a subject, and false where there is none, or where it can't be known in good time.
func (b *SnapshotBucket) read(ctx context.Context, subject string) ([]byte, bool) {
	if time.Now().UnixNano() < b.rested.Load() {
		b.count(ctx, snapshotUnread)
		return nil, false
	}
	limited, cancel := context.WithTimeout(ctx, snapshotReadLimit)
	defer cancel()
	entry, err := b.bucket.Get(limited, snapshotKey(subject))
	switch {
	case err == nil:
		return entry.Value(), true
	case errors.Is(err, jetstream.ErrKeyNotFound):
		b.count(ctx, snapshotAbsent)
	case ctx.Err() == nil:
		b.rested.Store(time.Now().Add(snapshotRest).UnixNano())
		b.complain(ctx, snapshotUnread, subject, err)
	}
	return nil, false
}

// write stores an entry in the background.
func (b *SnapshotBucket) write(ctx context.Context, subject string, entry []byte) {
	select {
	case <-b.writer:
	default:
		b.count(ctx, snapshotLeftOut)
		return
	}
	go func() {
		defer func() { b.writer <- struct{}{} }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), snapshotWriteLimit)
		defer cancel()
		if _, err := b.bucket.Put(ctx, snapshotKey(subject), entry); err != nil {
			b.complain(ctx, snapshotUnwritten, subject, err)
			return
		}
		b.count(ctx, snapshotWritten)
	}()
}

func (b *SnapshotBucket) count(ctx context.Context, o snapshotOutcome) {
	b.snapshots.Add(ctx, 1, b.outcomes[o])
}

// complain counts, and logs now and then: a bucket that is gone would be named at every load.
func (b *SnapshotBucket) complain(ctx context.Context, o snapshotOutcome, subject string, cause error) {
	b.count(ctx, o)
	now, last := time.Now(), b.noticed.Load()
	if now.UnixNano()-last < int64(snapshotNotice) || !b.noticed.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	b.log.LogAttrs(ctx, slog.LevelWarn, "a snapshot is of no use, and the log is folded instead",
		slog.String("why", string(o)), slog.String("subject", subject), slog.Any("cause", cause))
}

// snapshotKey is the subject itself, unless a key may not look like that.
func snapshotKey(subject string) string {
	for token := range strings.SplitSeq(subject, ".") {
		if _, err := events.Untoken(token); err != nil {
			return events.Token(subject)
		}
	}
	return subject
}
