package asyncapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/asyncapi"
)

func document(t *testing.T, topology events.Topology) []byte {
	t.Helper()
	d, err := asyncapi.New(&topology, registry(t), asyncapi.Info{Title: "Tidemark", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func registry(t *testing.T) *events.Registry {
	t.Helper()
	r, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rules compiles testdata/structure.json.
func rules(t *testing.T) *jsonschema.Schema {
	t.Helper()
	raw, err := os.ReadFile("testdata/structure.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("structure.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("structure.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// invalid names every rule of AsyncAPI 3.0.0 that a document breaks: the structure, and what a schema can't say.
func invalid(t *testing.T, schema *jsonschema.Schema, raw []byte) []string {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	if err := schema.Validate(doc); err != nil {
		out = append(out, err.Error())
	}
	root := doc.(map[string]any)
	eachRef(doc, func(ref string) {
		if _, ok := resolve(doc, ref); !ok {
			out = append(out, ref+" leads nowhere")
		}
	})
	channels, _ := root["channels"].(map[string]any)
	for name, c := range channels {
		c := c.(map[string]any)
		var used []string
		address, _ := c["address"].(string)
		for _, m := range regexp.MustCompile(`\{(.*?)\}`).FindAllStringSubmatch(address, -1) {
			used = append(used, m[1])
		}
		parameters, _ := c["parameters"].(map[string]any)
		slices.Sort(used)
		if declared := slices.Sorted(maps.Keys(parameters)); !slices.Equal(used, declared) {
			out = append(out, fmt.Sprintf("channel %s: its address has the parameters %q, it declares %q", name, used, declared))
		}
	}
	operations, _ := root["operations"].(map[string]any)
	for name, o := range operations {
		o := o.(map[string]any)
		channel := refOf(o["channel"])
		if !strings.HasPrefix(channel, "#/channels/") {
			out = append(out, fmt.Sprintf("operation %s: %s is no channel of this document", name, channel))
		}
		messages, _ := o["messages"].([]any)
		for _, m := range messages {
			if !strings.HasPrefix(refOf(m), channel+"/messages/") {
				out = append(out, fmt.Sprintf("operation %s: %s is no message of its channel", name, refOf(m)))
			}
		}
	}
	return out
}

func refOf(v any) string {
	m, _ := v.(map[string]any)
	ref, _ := m["$ref"].(string)
	return ref
}

func eachRef(v any, found func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			if ref, ok := child.(string); ok && key == "$ref" {
				found(ref)
			}
			eachRef(child, found)
		}
	case []any:
		for _, child := range v {
			eachRef(child, found)
		}
	}
}

func resolve(doc any, ref string) (any, bool) {
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil, false
	}
	for token := range strings.SplitSeq(path, "/") {
		m, ok := doc.(map[string]any)
		if !ok {
			return nil, false
		}
		if doc, ok = m[token]; !ok {
			return nil, false
		}
	}
	return doc, true
}

func TestDocumentIsValidAsyncAPI(t *testing.T) {
	t.Parallel()
	schema := rules(t)
	raw := document(t, events.DefaultTopology(0))
	for _, broken := range invalid(t, schema, raw) {
		t.Error(broken)
	}
	for want, change := range map[string][2]string{
		"'/asyncapi': value must be":   {`"asyncapi": "3.0.0"`, `"asyncapi": "2.6.0"`},
		"missing property 'action'":    {`"action": "send",`, ``},
		"'actoin' not allowed":         {`"action": "send",`, `"action": "send", "actoin": "send",`},
		"missing property 'title'":     {`"title": "Tidemark",`, ``},
		"lost leads nowhere":           {`"#/components/messages/shop.event.late.v1"`, `"#/components/messages/lost"`},
		"it declares":                  {`"address": "late.{reason}.{query}"`, `"address": "late.{reason}"`},
		"is no message of its channel": {`"#/channels/late/messages/shop.event.late.v1"`, `"#/components/messages/shop.event.late.v1"`},
		"is no channel of":             {`"$ref": "#/channels/late"`, `"$ref": "#/components/schemas/cloudevents"`},
		"'minLenght' not allowed":      {`"minLength"`, `"minLenght"`},
	} {
		harmed := strings.Replace(string(raw), change[0], change[1], 1)
		if harmed == string(raw) {
			t.Errorf("%q is not in the document: the case tests nothing", change[0])
		}
		if got := strings.Join(invalid(t, schema, []byte(harmed)), "\n"); !strings.Contains(got, want) {
			t.Errorf("with %s: got %q, want %q", change[1], got, want)
		}
	}
}

func TestDocumentIsDeterministic(t *testing.T) {
	t.Parallel()
	first := document(t, events.DefaultTopology(0))
	for range 20 {
		if !bytes.Equal(first, document(t, events.DefaultTopology(0))) {
			t.Fatal("the same topology makes different documents")
		}
	}
	if !json.Valid(first) {
		t.Fatal("is no JSON")
	}
}
