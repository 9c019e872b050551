package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// What the owner of a partition needs beside what operators do. Nobody else may use it: two writers of one key's letters would lose its order.

// Park stores a letter under the lock of its subject: last is the sequence of the key's last letter in DLQ, 0 where there is none. It wraps [ErrConflict] where the subject
// has another last letter. Any other error means that the letter is not known to be stored: the event must not be settled. No message id is used to
// tell a repeat: an id that the broker remembers says nothing about whether the letter is still there.
func (s *Store) Park(ctx context.Context, l *Letter, last uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	msg := l.Message(s.subjects)
	ack, err := s.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(last))
	if errors.Is(err, nats.ErrMaxPayload) && len(msg.Data) > 0 {
		l.Omitted = true
		msg = l.Message(s.subjects)
		ack, err = s.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(last))
	}
	switch {
	case wrongSequence(err):
		return 0, fmt.Errorf("park %s: %w", l.ID, ErrConflict)
	case err != nil:
		return 0, fmt.Errorf("park %s: %w", l.ID, err)
	}
	return ack.Sequence, nil
}

// Keys counts the letters of one partition by key, as the stream's leader knows them: the keys that are blocked. A topology without DLQ has none.
func (s *Store) Keys(ctx context.Context, group string, partition int) (map[string]int, error) {
	keys := make(map[string]int)
	for offset := 0; ; {
		var info struct {
			Total int `json:"total"`
			State struct {
				Subjects map[string]int `json:"subjects"`
			} `json:"state"`
			Error *jetstream.APIError `json:"error"`
		}
		request := struct {
			Filter string `json:"subjects_filter"`
			Offset int    `json:"offset"`
		}{s.subjects.LettersOfPartition(group, partition), offset}
		if err := s.ask(ctx, "STREAM.INFO."+events.StreamDLQ, request, &info); err != nil {
			return nil, fmt.Errorf("read blocked keys: %w", err)
		}
		if info.Error != nil && info.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound {
			return keys, nil
		}
		if info.Error != nil {
			return nil, fmt.Errorf("read blocked keys: %w", info.Error)
		}
		for subject, letters := range info.State.Subjects {
			key, err := events.Untoken(subject[strings.LastIndexByte(subject, '.')+1:])
			if err == nil {
				keys[key] = letters
			}
		}
		offset += len(info.State.Subjects)
		if len(info.State.Subjects) == 0 || offset >= info.Total {
			return keys, nil
		}
	}
}

// OfKey reads the letters of one key in a partition, from the stream's leader, in the order in which they were parked. Their states are not read.
func (s *Store) OfKey(ctx context.Context, group string, partition int, key string) ([]Letter, error) {
	var out []Letter
	for from := uint64(1); ; {
		m, err := s.fromLeader(ctx, events.StreamDLQ, lookup.Request{Sequence: from, NextBySubject: s.subjects.Letter(group, partition, key)})
		if errors.Is(err, ErrNotFound) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read letters of %s: %w", key, err)
		}
		from = m.Sequence + 1
		if l, err := Parse(m); err == nil {
			out = append(out, l)
		}
	}
}

// LastControl is the last sequence of DLQCTL, as its leader knows it; 0 where the topology has no such stream.
func (s *Store) LastControl(ctx context.Context) (uint64, error) {
	var info struct {
		Config struct {
			Replicas int `json:"num_replicas"`
		} `json:"config"`
		State struct {
			LastSequence uint64 `json:"last_seq"`
		} `json:"state"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := s.ask(ctx, "STREAM.INFO."+events.StreamDLQCtl, struct{}{}, &info); err != nil {
		return 0, fmt.Errorf("read last sequence of %s: %w", events.StreamDLQCtl, err)
	}
	if info.Error != nil && info.Error.ErrorCode != jetstream.JSErrCodeStreamNotFound {
		return 0, fmt.Errorf("read last sequence of %s: %w", events.StreamDLQCtl, info.Error)
	}
	s.direct.Store(info.Config.Replicas == 1)
	return info.State.LastSequence, nil
}

// Crash is what the owners of a partition tried after one of them ended without a hand-over.
type Crash struct {
	Deaths   int       `json:"deaths"`           // owners that ended so, one after the other, without getting past High
	High     uint64    `json:"high"`             // the newest event that one of them was sent
	Trying   uint64    `json:"trying,omitempty"` // the event that is handled now, alone: an intent, written before
	Instance string    `json:"instance"`
	At       time.Time `json:"at"`
}

// LastCrash reads the last record of a partition; a zero one where there is none.
func (s *Store) LastCrash(ctx context.Context, group string, partition int) (Crash, error) {
	m, err := s.fromLeader(ctx, events.StreamDLQCtl, lookup.Request{LastBySubject: s.subjects.Crash(group, partition)})
	if errors.Is(err, ErrNotFound) || hasCode(err, jetstream.JSErrCodeStreamNotFound) {
		return Crash{}, nil
	}
	if err != nil {
		return Crash{}, fmt.Errorf("read crash record: %w", err)
	}
	var c Crash
	if err := json.Unmarshal(m.Data, &c); err != nil {
		return Crash{}, fmt.Errorf("read crash record: %w", err)
	}
	return c, nil
}

// WriteCrash stores a record. Where the broker does not answer, it says so: what it was to guard must not begin.
func (s *Store) WriteCrash(ctx context.Context, group string, partition int, c Crash) error {
	c.At = s.now().UTC()
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write crash record: %w", err)
	}
	ctx, cancel := patience(ctx)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err := s.js.PublishMsg(try, &nats.Msg{Subject: s.subjects.Crash(group, partition), Data: body})
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !passes(err) {
			return fmt.Errorf("write crash record: %w", err)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// Drop writes down that the group settled an event without an effect, as its handler said. There is no letter of it, only this record.
func (s *Store) Drop(ctx context.Context, group, id, by, why string) error {
	last, err := s.LastEntry(ctx, group, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	e := Entry{Letter: id, State: StateDiscarded, Action: ActionDrop, By: by, Why: line(Scrub(why), mostError), At: s.now().UTC(), Sequence: last.Sequence}
	if _, err = s.Write(ctx, e); errors.Is(err, ErrConflict) { // another owner's record of the same
		return nil
	}
	return err
}
