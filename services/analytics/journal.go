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
)

// journal holds the commit records: one subject of WINDOWS, one message a step. The broker takes a record only on top of the one that the
// writer knows, which is the fence between two instances.
type journal struct {
	js       jetstream.JetStream
	subjects events.Subjects
	records  string // subject
}

// The tokens of the subjects. All queries commit together, since they read one log in one step.
const (
	journalName = "all"
	baseName    = journalName + "-base"    // of snapshots
	outputsName = journalName + "-outputs" // of outputs that are too many for a record
)

// maxInline is how many bytes of outputs a record has in itself; a message of NATS has 1 MiB at most.
const maxInline = 600 << 10

func newJournal(js jetstream.JetStream, subjects events.Subjects) *journal {
	return &journal{js: js, subjects: subjects, records: subjects.Commit(journalName, 0)}
}

// errOtherInstance says that another instance commits: this one must forget what it has in memory and stand by.
var errOtherInstance = errors.New("another instance has committed")

const requestTimeout = 10 * time.Second

// last reads the last record and its sequence in WINDOWS, which is 0 where there is none yet.
func (j *journal) last(ctx context.Context) (record, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var rec record
	stream, err := j.js.Stream(ctx, events.StreamWindows)
	if err != nil {
		return rec, 0, fmt.Errorf("read commit record: %w", err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, j.records)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return rec, 0, nil
	}
	if err != nil {
		return rec, 0, fmt.Errorf("read commit record: %w", err)
	}
	if err := json.Unmarshal(msg.Data, &rec); err != nil {
		return rec, 0, fmt.Errorf("read commit record %d: %w", msg.Sequence, err)
	}
	switch rec.Format {
	case recordFormat:
	case recordFormatV1:
		rec.upgrade()
	default:
		return rec, 0, fmt.Errorf("read commit record %d: %w: it is %d, this program knows %d", msg.Sequence, errFormat, rec.Format, recordFormat)
	}
	return rec, msg.Sequence, nil
}

// errFormat says that a newer program has written the last record.
var errFormat = errors.New("a format of a newer program")

// outputs are what a record's step gives to the world, wherever they are stored.
func (j *journal) outputs(ctx context.Context, rec *record) error {
	if rec.Elsewhere == nil {
		return nil
	}
	data, err := j.load(ctx, rec.Elsewhere)
	if err != nil {
		return fmt.Errorf("read outputs: %w", err)
	}
	if err := json.Unmarshal(data, &rec.Outputs); err != nil {
		return fmt.Errorf("read outputs: %w", err)
	}
	return nil
}

// append stores a record on top of the one with the sequence after, and returns its own. An error may mean that it is stored all the same (a
// time-out): the caller forgets its state and reads the journal again, which tells.
func (j *journal) append(ctx context.Context, rec *record, after uint64) (uint64, error) {
	data, err := json.Marshal(rec)
	if err == nil && len(data) > maxInline {
		data, err = j.split(ctx, *rec)
	}
	if err != nil {
		return 0, fmt.Errorf("encode commit record: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ack, err := j.js.PublishMsg(ctx, &nats.Msg{Subject: j.records, Data: data}, jetstream.WithExpectLastSequencePerSubject(after))
	if isConflict(err) {
		return 0, fmt.Errorf("commit at sequence %d of TIMELINE: %w: %w", rec.Sequence, errOtherInstance, err)
	}
	if err != nil {
		return 0, fmt.Errorf("commit at sequence %d of TIMELINE: %w", rec.Sequence, err)
	}
	return ack.Sequence, nil
}

// split stores a record's outputs beside it. One message can close windows of a hundred thousand keys.
func (j *journal) split(ctx context.Context, rec record) ([]byte, error) {
	outputs, err := json.Marshal(&rec.Outputs)
	if err != nil {
		return nil, err
	}
	kept, err := j.keep(ctx, outputsName, outputs, nil)
	if err != nil {
		return nil, err
	}
	rec.Elsewhere, rec.Outputs.Results, rec.Outputs.Late = &kept, nil, nil
	return json.Marshal(&rec)
}

// isConflict knows both codes of a broken expectation: 10071, and on replicated streams 10164 while another write is on its way.
func isConflict(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	return api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}
