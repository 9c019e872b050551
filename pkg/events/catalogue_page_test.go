package events_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

type schemaDoc struct {
	Description string                `json:"description"`
	Type        string                `json:"type"`
	Properties  map[string]*schemaDoc `json:"properties"`
	Required    []string              `json:"required"`
	Items       *schemaDoc            `json:"items"`
	MinItems    *int                  `json:"minItems"`
	MaxItems    *int                  `json:"maxItems"`
	MinLength   *int                  `json:"minLength"`
	MaxLength   *int                  `json:"maxLength"`
	Minimum     *int64                `json:"minimum"`
	Enum        []string              `json:"enum"`
	Pattern     string                `json:"pattern"`
	Format      string                `json:"format"`
}

// The page is made from the embedded schemas: go test ./pkg/events -update writes it.
func TestCataloguePageIsUpToDate(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	var b strings.Builder
	b.WriteString("# Events\n\n<!-- Made from pkg/events/schemas by: go test ./pkg/events -run Page -update -->\n\n")
	b.WriteString("Every event type of the catalogue, with the fields of its payload. The last part of a type is its major version: a new meaning gets a new\n")
	b.WriteString("type, a new optional field does not. Readers ignore fields that they do not know. Money is in minor units (pence, cents).\n\n")
	b.WriteString("The envelope is [explained here](../explanation/events.md). One event of each type, as it is stored, lies in `pkg/events/testdata/golden`.\n")
	for _, eventType := range r.Types() {
		raw, _ := r.Schema(eventType)
		var s schemaDoc
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| field | | rule |\n|---|---|---|\n", eventType, s.Description)
		fields(&b, "", &s)
	}
	samePage(t, "events.md", b.String())
}

func fields(b *strings.Builder, prefix string, s *schemaDoc) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		need := "optional"
		if slices.Contains(s.Required, name) {
			need = "required"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s |\n", prefix, name, need, rule(p))
		if p.Items != nil {
			fields(b, prefix+name+"[].", p.Items)
		}
	}
}

func rule(s *schemaDoc) string {
	bounds := func(low, high *int) string {
		switch {
		case low != nil && high != nil:
			return fmt.Sprintf(", %d to %d", *low, *high)
		case high != nil:
			return fmt.Sprintf(", at most %d", *high)
		}
		return ""
	}
	switch {
	case len(s.Enum) > 0:
		return "one of `" + strings.Join(s.Enum, "`, `") + "`"
	case s.Format == "date-time":
		return "time, RFC 3339"
	case s.Pattern != "":
		return "text that matches `" + s.Pattern + "`"
	case s.Type == "string":
		if b := bounds(s.MinLength, s.MaxLength); b != "" {
			return "text" + b + " characters"
		}
		return "text"
	case s.Type == "array":
		return "list" + bounds(s.MinItems, s.MaxItems)
	case s.Minimum != nil:
		return fmt.Sprintf("%s, %d or more", s.Type, *s.Minimum)
	}
	return s.Type
}
