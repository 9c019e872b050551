package eventstest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

// GoldenEvent is one event of the golden corpus, as a reader sees it: in the newest version of its type.
type GoldenEvent struct {
	File string // below pkg/events/testdata/golden
	events.Event
}

// Golden reads the golden corpus: an event of every version of every type that was ever published, as it was stored. Who folds events folds these in a
// test, so that no change makes an old one unreadable.
func Golden(tb testing.TB, registry *events.Registry) []GoldenEvent {
	tb.Helper()
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		tb.Fatal("golden corpus: this package has no path")
	}
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(here), "..", "testdata", "golden", "*.json"))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("golden corpus: %d files, %v", len(paths), err)
	}
	corpus := make([]GoldenEvent, len(paths))
	for i, path := range paths {
		file := filepath.Base(path)
		raw, err := os.ReadFile(path)
		if err != nil {
			tb.Fatalf("golden corpus: %v", err)
		}
		var stored struct {
			Headers events.Header   `json:"headers"`
			Data    json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(raw, &stored); err != nil {
			tb.Fatalf("golden corpus: %s: %v", file, err)
		}
		var data bytes.Buffer
		if err := json.Compact(&data, stored.Data); err != nil {
			tb.Fatalf("golden corpus: %s: %v", file, err)
		}
		ev, err := registry.Read(stored.Headers, data.Bytes())
		if err != nil {
			tb.Fatalf("golden corpus: %s can't be read any more: %v", file, err)
		}
		corpus[i] = GoldenEvent{File: file, Event: ev}
	}
	return corpus
}
