package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// backfillRecord is how far one query's backfills have come. The last message of its subject is the truth, and the next one is taken only on top of it.
type backfillRecord struct {
	Format   int    `json:"format"`
	Query    string `json:"query"`
	Position uint64 `json:"position"` // of LATE: what is behind it was not looked at
	// Pending are late events, by their sequences in LATE, that are to be looked at again: a window that they missed was not gone, or its session may still grow.
	Pending []uint64 `json:"pending,omitempty"`
	Seen    uint64   `json:"seen"` // late events up to the position, those that LATE had forgotten too

	// What all backfills did together.
	Published uint64    `json:"published"`
	Retracted uint64    `json:"retracted"`
	Lost      uint64    `json:"lost"`    // windows
	Expired   uint64    `json:"expired"` // late events
	Stored    time.Time `json:"stored"`
}

const (
	backfillFormat = 1
	mostPending    = 100_000 // so that a record fits into a message
)

// fit keeps the record small: what does not fit is read again.
func (r *backfillRecord) fit() {
	if len(r.Pending) > mostPending {
		r.Position = min(r.Position, r.Pending[mostPending]-1)
		r.Pending = r.Pending[:mostPending]
	}
}

func (r *backfillRecord) add(did *BackfillReport) {
	r.Published += uint64(did.Published) //nolint:gosec // counts
	r.Retracted += uint64(did.Retracted) //nolint:gosec // counts
	r.Lost += uint64(did.Lost)           //nolint:gosec // counts
	r.Expired += did.Expired
}

func (j *journal) backfills(query string) string { return j.subjects.Commit(query+"-backfill", 0) }

// position reads how far a query's backfills have come, and the record's sequence in WINDOWS; 0 where there was none.
func (j *journal) position(ctx context.Context, query string) (backfillRecord, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	rec := backfillRecord{Format: backfillFormat, Query: query}
	m, err := lookup.Of(j.js, events.StreamWindows).FromLeader(ctx, lookup.Request{LastBySubject: j.backfills(query)})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return rec, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(m.Data, &rec)
	}
	if err != nil {
		return rec, 0, fmt.Errorf("read the position of backfills: %w", err)
	}
	if rec.Format != backfillFormat {
		return rec, 0, fmt.Errorf("read the position of backfills: %w: it is %d, this program knows %d", errFormat, rec.Format, backfillFormat)
	}
	return rec, m.Sequence, nil
}

// move stores a position on top of the one with the sequence after.
func (j *journal) move(ctx context.Context, rec *backfillRecord, after uint64) error {
	rec.Stored = time.Now().UTC()
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode position: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = j.js.PublishMsg(ctx, &nats.Msg{Subject: j.backfills(rec.Query), Data: data}, jetstream.WithExpectLastSequencePerSubject(after))
	if isConflict(err) {
		return fmt.Errorf("move the position: %w: %w", errOvertaken, err)
	}
	if err != nil {
		return fmt.Errorf("move the position: %w", err)
	}
	return nil
}
