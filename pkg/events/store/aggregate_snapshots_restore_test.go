package store_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// The log was lost and made anew under its name: the snapshot names a sequence that does not exist, then one that holds another event, at last one that
// holds an event with the same id on the same subject. It is never used.
func TestASnapshotOfAnotherLogIsNotUsed(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.a", 12)
	s.load("ledger.a")
	snapshot := s.entry("ledger.a")
	old := mustLoad(t, s.log, "ledger.a")

	dir := s.directory()
	anew := func() {
		s.Stop(0) // a running server removes the files in the background, and a stream that is made before it has would come back with the old events
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		s.Restart(0)
		s.Apply(ledgerTopology())
		s.reconnect()
		s.put("ledger.a", snapshot)
	}
	anew()
	s.mustFold("ledger.a", 0) // an empty log is an empty state
	s.add("ledger.a", 9)
	s.mustFold("ledger.a", 9) // sequence 12 is yet to come
	if s.ended("not_in_log") != 2 {
		t.Errorf("counted %v", s.outcomes())
	}
	s.add("ledger.b", 3)
	s.mustFold("ledger.a", 9) // sequence 12 is another aggregate's
	anew()
	s.add("ledger.a", 12)
	s.mustFold("ledger.a", 12) // another event
	anew()
	last := mustAppend(t, s.log, "ledger.a", 0, amount(1000))
	for _, r := range old[1:] {
		last = mustAppend(t, s.log, "ledger.a", last, amountID(r.ID, 1))
	}
	s.mustFold("ledger.a", 12) // the same id, stored at another time, after another history
	if s.ended("not_in_log") != 5 {
		t.Errorf("counted %v", s.outcomes())
	}
}

// The broker's directory is put back to an older copy, and the log goes on from there in another way. Snapshots from before and behind the copy are there: those of what the
// log still holds are used, the others are not.
func TestASnapshotOutlivesARestoredLog(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.kept", 12)
	s.load("ledger.kept")
	s.add("ledger.lost", 12)
	dir := s.directory()
	backup := filepath.Join(t.TempDir(), "backup")
	s.Stop(0)
	copyDir(t, dir, backup)
	s.Restart(0)
	s.reconnect()
	s.add("ledger.lost", 10)
	s.load("ledger.lost") // of 22 events
	s.Stop(0)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	copyDir(t, backup, dir)
	s.Restart(0)
	s.reconnect()
	s.mustFold("ledger.kept", 0)
	s.mustFold("ledger.lost", 12)
	s.add("ledger.lost", 15)      // past the sequence of the lost events
	s.mustFold("ledger.lost", 15) // behind the one that the load before left
	if s.ended("not_in_log") != 1 {
		t.Errorf("counted %v", s.outcomes())
	}
}

// directory is where the running server keeps the log.
func (s *shelf) directory() string {
	return filepath.Join(s.Nodes()[0].JetStreamConfig().StoreDir, "$G", "streams", ledger)
}

// reconnect waits until the bucket's connection is back. The log waits for its own.
func (s *shelf) reconnect() {
	s.t.Helper()
	eventstest.Eventually(s.t, waitLimit, "the bucket can be read", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 200*time.Millisecond) // a question that went into the old connection is never answered
		defer cancel()
		_, err := s.entries.Status(ctx)
		return err == nil
	})
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
