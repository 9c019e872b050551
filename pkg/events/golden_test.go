package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

// go test ./pkg/events -update writes the golden file of a type that has none, and the generated pages of docs/reference. It never changes a golden file:
// what was stored once must be readable for ever.
var update = flag.Bool("update", false, "write golden files that are missing, and generated docs")

const goldenDir = "testdata/golden"

type golden struct {
	Headers events.Header   `json:"headers"`
	Data    json.RawMessage `json:"data"`
}

func goldenEvent(t *testing.T, eventType string, payload any) events.Event {
	t.Helper()
	e, err := events.New("/tidemark/golden", eventType, "536365", sampleTime, payload)
	if err != nil {
		t.Fatal(err)
	}
	e.ID, e.CausationID, e.Version = events.DeriveID("golden", eventType), events.DeriveID("cause"), 2
	e.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	return e
}

func writeGolden(t *testing.T, path string, e events.Event) {
	t.Helper()
	h, data, err := events.Encode(&e)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(golden{Headers: h, Data: data}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(goldenDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEveryTypeHasAGoldenFile(t *testing.T) {
	t.Parallel()
	payloads := samples()
	for _, eventType := range newRegistry(t).Types() {
		path := filepath.Join(goldenDir, eventType+".json")
		_, err := os.Stat(path)
		if payload, ok := payloads[eventType]; ok && errors.Is(err, fs.ErrNotExist) && *update {
			writeGolden(t, path, goldenEvent(t, eventType, payload))
			continue
		}
		if err != nil {
			t.Errorf("%s: %v (go test ./pkg/events -update writes it)", eventType, err)
		}
	}
}

// A type with a version 3 has versions 1 and 2, and steps that lead from each to the newest: what was published once can be read for ever.
func TestEveryVersionLeadsToTheNewest(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	newest := make(map[string]int) // by the type's name
	for _, eventType := range r.Types() {
		name, major := version(t, eventType)
		newest[name] = max(newest[name], major)
	}
	for name, last := range newest {
		for major := 1; major <= last; major++ {
			eventType, want := fmt.Sprintf("%s.v%d", name, major), fmt.Sprintf("%s.v%d", name, last)
			if err := r.Supports(eventType); err != nil {
				t.Errorf("%s was published once: %v", eventType, err)
			}
			if got := r.Newest(eventType); got != want {
				t.Errorf("%s is read as %s, not %s: catalogueUpcasts lacks a step", eventType, got, want)
			}
		}
	}
}

func version(t *testing.T, eventType string) (name string, major int) {
	t.Helper()
	i := strings.LastIndex(eventType, ".v")
	major, err := strconv.Atoi(eventType[i+2:])
	if err != nil {
		t.Fatalf("%s has no version", eventType)
	}
	return eventType[:i], major
}

// Old bytes decode, keep their schema, and encode to the same again. Upcast, they are what the newest schema asks for, and what is read into the payload struct
// and written again loses nothing.
func TestGoldenFilesAreReadForEver(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.json"))
	if *update {
		return // this run writes what the next one reads
	}
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	r := newRegistry(t)
	payloads := samples()
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := json.Unmarshal(raw, &g); err != nil {
				t.Fatal(err)
			}
			data := compact(t, g.Data)
			e, err := events.Decode(g.Headers, data)
			if err != nil {
				t.Fatalf("can't be read any more: %v", err)
			}
			if !strings.HasPrefix(filepath.Base(path), e.Type) {
				t.Errorf("holds a %s", e.Type)
			}
			if err := r.Validate(&e); err != nil {
				t.Errorf("its schema refuses it now: %v", err)
			}
			h, back, err := events.Encode(&e)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(h, g.Headers) || !bytes.Equal(back, data) {
				t.Errorf("is written in another way now:\n got %v %s\nwant %v %s", h, back, g.Headers, data)
			}
			newest, err := r.Upcast(e)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Validate(&newest); err != nil {
				t.Errorf("upcast to %s, its schema refuses it: %v", newest.Type, err)
			}
			sameThroughStruct(t, payloads[newest.Type], newest.Data)
		})
	}
}

func sameThroughStruct(t *testing.T, payload any, data []byte) {
	t.Helper()
	if payload == nil {
		t.Fatal("has no payload struct any more")
	}
	v := reflect.New(reflect.TypeOf(payload))
	if err := json.Unmarshal(data, v.Interface()); err != nil {
		t.Fatalf("payload: %v", err)
	}
	again, err := json.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	var before, after any
	if err := errors.Join(json.Unmarshal(data, &before), json.Unmarshal(again, &after)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("the payload struct loses something:\n got %s\nwant %s", again, data)
	}
}

func compact(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
