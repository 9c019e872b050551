package events_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
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
	OpenEnum    bool                  `json:"x-open-enum"`
	Pattern     string                `json:"pattern"`
	Format      string                `json:"format"`
}

// The page is made from the embedded schemas, the topology and the golden files: go test ./pkg/events -update writes it.
func TestCataloguePageIsUpToDate(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	topology := events.DefaultTopology(0)
	var b strings.Builder
	b.WriteString("# Events\n\n<!-- Made from pkg/events (schemas, channels.go, topology.go, testdata/golden) by: go test ./pkg/events -update -->\n\n")
	b.WriteString("Every event type of the catalogue: who publishes it where, who reads it, the fields of its payload, and one example. The last part of a type is its\n")
	b.WriteString("major version: a new meaning gets a new type, a new optional field does not ([what may change](../how-to/change-an-event.md)). Readers ignore fields that they do not\n")
	b.WriteString("know. Money is in minor units (pence, cents). An open list of values may grow.\n\n")
	b.WriteString("The envelope is [explained here](../explanation/events.md); its headers are the same for every type:\n\n```text\n")
	for _, line := range readGolden(t, events.TypeOrderPlaced).headerLines() {
		b.WriteString(line + "\n")
	}
	b.WriteString("```\n\nThe same for tools, as an AsyncAPI 3 document: `tidemark topology asyncapi`.\n")
	for _, eventType := range r.Types() {
		raw, _ := r.Schema(eventType)
		var s schemaDoc
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", eventType, s.Description)
		traffic(&b, &topology, eventType)
		b.WriteString("\n| field | | rule | what it is |\n|---|---|---|---|\n")
		fields(&b, "", &s)
		fmt.Fprintf(&b, "\n```json\n%s\n```\n", indented(t, readGolden(t, eventType).Data))
	}
	samePage(t, "events.md", b.String())
}

// traffic says where a type goes: a line a channel.
func traffic(b *strings.Builder, topology *events.Topology, eventType string) {
	b.WriteString("| stream | subject | published by | read by group |\n|---|---|---|---|\n")
	for _, c := range topology.Channels {
		if !slices.Contains(c.Types, eventType) {
			continue
		}
		var readers []string
		for _, g := range topology.Groups {
			kept := slices.ContainsFunc(topology.ChannelsOf(g.Stream), func(of events.Channel) bool { return of.Name == c.Name })
			if !kept || !g.Reads(c) || !slices.Contains(g.Handles, eventType) {
				continue
			}
			name := g.Name
			if g.Stream != c.Stream {
				name += " (through " + g.Stream + ")"
			}
			readers = append(readers, name)
		}
		senders := "the broker"
		if len(c.Senders) > 0 {
			senders = strings.Join(c.Senders, ", ")
		}
		fmt.Fprintf(b, "| %s | `%s` | %s | %s |\n", c.Stream, c.Address, senders, list(readers))
	}
}

func readGolden(t *testing.T, eventType string) golden {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(goldenDir, eventType+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g golden) headerLines() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(g.Headers)) {
		lines = append(lines, name+": "+strings.Join(g.Headers[name], ", "))
	}
	return lines
}

func indented(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func fields(b *strings.Builder, prefix string, s *schemaDoc) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		need := "optional"
		if slices.Contains(s.Required, name) {
			need = "required"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", prefix, name, need, rule(p), p.Description)
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
		open := ""
		if s.OpenEnum {
			open = "; open"
		}
		return "one of `" + strings.Join(s.Enum, "`, `") + "`" + open
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
