package events_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

// go test ./pkg/events -run Published -publish records every schema as published. It belongs to a release: from then on programs that we do not
// know write and read it.
var publish = flag.Bool("publish", false, "record the schemas as published: part of a release")

const publishedDir = "testdata/published"

// What a released version has published can't be changed in a way that breaks a program that runs, or an event that is stored.
func TestPublishedSchemasStayCompatible(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(publishedDir, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no published schemas: %v", err)
	}
	r := newRegistry(t)
	for _, path := range paths {
		eventType := strings.TrimSuffix(filepath.Base(path), ".json")
		published, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		schema, ok := r.Schema(eventType)
		if !ok {
			t.Errorf("%s is published and no longer in the catalogue: events of it are stored, and nobody could read them", eventType)
			continue
		}
		if err := events.CompatibleSchema(published, schema); err != nil {
			t.Errorf("%s: schemas/%[1]s.json breaks with what was published:\n%v\nGive the new meaning a new type (the next major version), and let this one be.", eventType, err)
		}
	}
	if !*publish || t.Failed() {
		return
	}
	for _, eventType := range r.Types() {
		schema, _ := r.Schema(eventType)
		if err := os.WriteFile(filepath.Join(publishedDir, eventType+".json"), schema, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompatibleSchemaNamesEveryBreak(t *testing.T) {
	t.Parallel()
	const published = `{"description": "A parcel.", "type": "object", "required": ["id", "parts"], "properties": {
		"id": {"type": "string", "minLength": 1, "maxLength": 20}, "note": {"type": "string"}, "weight": {"type": "integer", "minimum": 0},
		"size": {"enum": ["s", "l"]}, "by": {"enum": ["road", "air"], "x-open-enum": true},
		"parts": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}}}}`
	for name, c := range map[string]struct {
		from, to string
		want     string // empty: compatible
	}{
		"nothing":                 {`x`, `x`, ""},
		"another description":     {`"A parcel."`, `"A parcel or a letter."`, ""},
		"new optional property":   {`"note":`, `"colour": {"type": "string"}, "note":`, ""},
		"new one in an item":      {`{"sku": {"type": "string"}}`, `{"sku": {"type": "string"}, "n": {"type": "integer"}}`, ""},
		"open list grows":         {`["road", "air"]`, `["road", "air", "sea"]`, ""},
		"removed":                 {`"note": {"type": "string"}, `, ``, "/note: was there, is removed"},
		"renamed":                 {`"note":`, `"remark":`, "/note: was there, is removed or renamed"},
		"retyped":                 {`"weight": {"type": "integer", "minimum": 0}`, `"weight": {"type": "string"}`, "/weight: type was integer, is string"},
		"new and required":        {`["id", "parts"], "properties": {`, `["id", "parts", "to"], "properties": {"to": {"type": "string"}, `, "/to: is new and required"},
		"optional, now required":  {`["id", "parts"]`, `["id", "parts", "note"]`, "/note: was optional, is required"},
		"required, now optional":  {`["id", "parts"]`, `["parts"]`, "/id: was required, is optional"},
		"required in an item":     {`"required": ["sku"]`, `"required": []`, "/parts[]/sku: was required, is optional"},
		"closed list grows":       {`["s", "l"]`, `["s", "m", "l"]`, `/size: value "m" is new in a closed list`},
		"closed list opens":       {`["s", "l"]}`, `["s", "l", "m"], "x-open-enum": true}`, `/size: value "m" is new in a closed list`},
		"open list closes":        {`, "x-open-enum": true`, ``, "/by: the list of values was open"},
		"list shrinks":            {`["road", "air"]`, `["road"]`, `/by: value "air" was allowed`},
		"list of values for text": {`"note": {"type": "string"}`, `"note": {"type": "string", "enum": ["a"]}`, "/note: any value was allowed"},
		"stricter":                {`"maxLength": 20`, `"maxLength": 10`, "/id: maxLength was 20, is 10"},
		"looser":                  {`"minimum": 0`, `"minimum": -1`, "/weight: minimum was 0, is -1"},
		"rule removed":            {`, "maxLength": 20`, ``, "/id: maxLength was 20, is unset"},
		"pattern":                 {`"maxLength": 20`, `"maxLength": 20, "pattern": "^a"`, "/id: pattern was none, is ^a"},
		"other items":             {`"sku": {"type": "string"}`, `"sku": {"type": "integer"}`, "/parts[]/sku: type was string"},
		"another dialect":         {`"note": {"type": "string"}`, `"note": {"oneOf": []}`, "outside of the dialect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next := strings.Replace(published, c.from, c.to, 1)
			if !json.Valid([]byte(next)) {
				t.Fatalf("the case makes no JSON: %s", next)
			}
			err := events.CompatibleSchema([]byte(published), []byte(next))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("says %v, want %q", err, c.want)
			case c.want != "" && name != "another dialect" && !errors.Is(err, events.ErrIncompatible):
				t.Errorf("%v is no ErrIncompatible", err)
			}
		})
	}
}
