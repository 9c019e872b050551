package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tidemark/tidemark/pkg/events"
)

// A type of a test catalogue that has come a long way: pounds as a float, pence as an integer, an amount with its currency.
const (
	depositedV1 = "test.account.deposited.v1"
	depositedV2 = "test.account.deposited.v2"
	depositedV3 = "test.account.deposited.v3"
)

func poundsToPence() events.Upcast {
	return events.Upcast{From: depositedV1, To: depositedV2, Payload: events.Fields(func(fields map[string]json.RawMessage) error {
		var pounds float64
		if err := json.Unmarshal(fields["pounds"], &pounds); err != nil {
			return fmt.Errorf("pounds: %w", err)
		}
		delete(fields, "pounds")
		fields["pence"] = json.RawMessage(fmt.Sprint(int64(math.Round(pounds * 100))))
		return nil
	})}
}

func penceToAmount() events.Upcast {
	return events.Upcast{From: depositedV2, To: depositedV3, Payload: events.Fields(func(fields map[string]json.RawMessage) error {
		if fields["pence"] == nil {
			return errors.New("pence: required, is missing")
		}
		fields["amount_minor"], fields["currency"] = fields["pence"], json.RawMessage(`"GBP"`)
		delete(fields, "pence")
		return nil
	})}
}

func evolved(tb testing.TB) *events.Registry {
	tb.Helper()
	schema := func(fields string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(`{"type":"object",` + fields + `}`)}
	}
	r, err := events.NewRegistry(fstest.MapFS{
		depositedV1 + ".json": schema(`"required":["pounds"],"properties":{"pounds":{"type":"number"}}`),
		depositedV2 + ".json": schema(`"required":["pence"],"properties":{"pence":{"type":"integer"}}`),
		depositedV3 + ".json": schema(`"required":["amount_minor","currency"],"properties":{"amount_minor":{"type":"integer"},"currency":{"type":"string"}}`),
	})
	if err != nil {
		tb.Fatal(err)
	}
	if r, err = r.Evolving(poundsToPence(), penceToAmount()); err != nil {
		tb.Fatal(err)
	}
	return r
}

// Every version that was ever published, as it was stored, is read as the newest one, with the fields that nobody knows.
func TestEveryVersionIsReadAsTheNewest(t *testing.T) {
	t.Parallel()
	r := evolved(t)
	paths, err := filepath.Glob("testdata/evolution/*.json")
	if err != nil || len(paths) < 4 {
		t.Fatalf("%d files: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var g struct {
				golden
				Newest json.RawMessage `json:"newest"`
			}
			if err := json.Unmarshal(raw, &g); err != nil {
				t.Fatal(err)
			}
			stored, err := events.Decode(g.Headers, compact(t, g.Data))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Validate(&stored); err != nil {
				t.Errorf("its own schema refuses it: %v", err)
			}
			got, err := r.Decode(g.Headers, compact(t, g.Data))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Validate(&got); err != nil {
				t.Errorf("the newest schema refuses it: %v", err)
			}
			if !sameJSON(t, got.Data, g.Newest) {
				t.Errorf("is read as %s, want %s", got.Data, g.Newest)
			}
			want := stored
			want.Type, want.DataSchema, want.Data = depositedV3, events.SchemaURI(depositedV3), got.Data
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the envelope changes:\n got %+v\nwant %+v", got, want)
			}
			if _, data, err := events.Encode(&stored); err != nil || !bytes.Equal(data, compact(t, g.Data)) {
				t.Errorf("what was stored is not what is written again: %s, %v", data, err)
			}
		})
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	read := func(data []byte) (v any) {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber() // numbers are compared by their digits
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		return v
	}
	return reflect.DeepEqual(read(a), read(b))
}

func TestUpcastLeavesTheNewestAndTheUnknownAlone(t *testing.T) {
	t.Parallel()
	r := evolved(t)
	for _, eventType := range []string{depositedV3, events.TypeOrderPlaced, "test.never.heard.v1"} {
		e := events.Event{ID: "1", Source: "/test", Type: eventType, DataSchema: "urn:x", Data: []byte(`not even JSON`)}
		if got, err := r.Upcast(e); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s becomes %+v, %v", eventType, got, err)
		}
	}
	var none *events.Registry
	if got, err := none.Upcast(events.Event{Type: depositedV1}); err != nil || got.Type != depositedV1 {
		t.Errorf("without a registry: %+v, %v", got, err)
	}
}

// An event that a step can't read stays what it was, and is undecodable: no retry will change that.
func TestUpcastFails(t *testing.T) {
	t.Parallel()
	r := evolved(t)
	for _, data := range []string{`{"pounds":"ten"}`, `{}`, `[]`, `null`, `{"pounds":1`} {
		e := events.Event{ID: "1", Source: "/test", Type: depositedV1, Data: []byte(data)}
		got, err := r.Upcast(e)
		if !errors.Is(err, events.ErrUndecodable) || !strings.Contains(err.Error(), depositedV1) {
			t.Errorf("%s: %v", data, err)
		}
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%s becomes %+v", data, got)
		}
	}
	h := events.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/test"}, "ce-type": {depositedV2}, "ce-partitionkey": {"ada"}}
	if e, err := r.Decode(h, []byte(`{"pence":null,"pence":}`)); !errors.Is(err, events.ErrUndecodable) || e.PartitionKey != "ada" {
		t.Errorf("decoded as %+v, %v", e, err)
	}
}

func TestEvolvingChecksItsSteps(t *testing.T) {
	t.Parallel()
	keep := func(data []byte) ([]byte, error) { return data, nil }
	base := evolved(t)
	for what, steps := range map[string][]events.Upcast{
		"back":           {{From: depositedV3, To: depositedV2, Payload: keep}},
		"a jump":         {{From: depositedV1, To: depositedV3, Payload: keep}},
		"another type":   {{From: events.TypeOrderPlaced, To: "shop.order.confirmed.v2", Payload: keep}},
		"no version":     {{From: "test", To: "test", Payload: keep}},
		"not there":      {{From: depositedV3, To: "test.account.deposited.v4", Payload: keep}},
		"there already":  {{From: depositedV1, To: depositedV2, Payload: keep}},
		"without a body": {{From: events.TypeOrderPlaced, To: "shop.order.placed.v2"}},
	} {
		if r, err := base.Evolving(steps...); err == nil || r != nil || !strings.Contains(err.Error(), steps[0].From) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if base.Newest(depositedV1) != depositedV3 {
		t.Error("a refused step changed the registry")
	}
	if r, err := base.Evolving(); err != nil || r.Newest(depositedV1) != depositedV3 {
		t.Errorf("no further steps: %v", err)
	}
}

func TestSupports(t *testing.T) {
	t.Parallel()
	r := evolved(t)
	for eventType, want := range map[string]struct{ unknown, version bool }{
		events.TypeOrderPlaced:      {},
		depositedV1:                 {},
		depositedV3:                 {},
		"test.account.deposited.v4": {unknown: true, version: true},
		"shop.order.placed.v2":      {unknown: true, version: true},
		"shop.order.placed.vx":      {unknown: true},
		"shop.order.placed":         {unknown: true},
		"shop.order.praised.v1":     {unknown: true},
		"":                          {unknown: true},
	} {
		err := r.Supports(eventType)
		if errors.Is(err, events.ErrUnknownType) != want.unknown || errors.Is(err, events.ErrUnsupportedVersion) != want.version || (err != nil) != want.unknown {
			t.Errorf("%q: %v", eventType, err)
		}
	}
}

// Fields of others keep their values, to the last digit.
func TestFieldsKeepWhatTheyDoNotKnow(t *testing.T) {
	t.Parallel()
	step := events.Fields(func(fields map[string]json.RawMessage) error {
		delete(fields, "old")
		return nil
	})
	got, err := step([]byte(`{"old":1,"big":12345678901234567890.10,"text":"a <b> & c","deep":{"x":[1e2,null]},"ü":"\u00fc"}`))
	if want := `{"big":12345678901234567890.10,"deep":{"x":[1e2,null]},"text":"a <b> & c","ü":"\u00fc"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

// FuzzUpcast: whatever somebody stored under an old type, it is upcast to JSON or called undecodable, and never a crash.
func FuzzUpcast(f *testing.F) {
	r := evolved(f)
	for _, seed := range []string{`{"pounds":12.34}`, `{"pounds":1e300}`, `{"pence":1,"pence":2}`, `{"pounds":null}`, `{`, ``} {
		f.Add(depositedV1, []byte(seed))
		f.Add(depositedV2, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, eventType string, data []byte) {
		e, err := r.Upcast(events.Event{ID: "1", Source: "/test", Type: eventType, Data: data})
		switch {
		case err != nil && !errors.Is(err, events.ErrUndecodable):
			t.Fatalf("error %v is not ErrUndecodable", err)
		case err == nil && e.Type != r.Newest(eventType):
			t.Fatalf("%s became %s", eventType, e.Type)
		case err == nil && e.Type != eventType && !json.Valid(e.Data):
			t.Fatalf("%q became %q", data, e.Data)
		}
	})
}
