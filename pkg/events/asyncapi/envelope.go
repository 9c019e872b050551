package asyncapi

import "github.com/tidemark/tidemark/pkg/events"

// envelope is the name of the schema that all events' headers keep.
const envelope = "cloudevents"

// envelopeSchema are the headers of a CloudEvents 1.0 event in binary mode, with the extensions that are used here.
func envelopeSchema() map[string]any {
	text := func(description string) map[string]any {
		return map[string]any{"type": "string", "description": description}
	}
	return map[string]any{
		"type":        "object",
		"description": "The headers of an event: CloudEvents 1.0 in binary mode over NATS. Values are percent-encoded.",
		"required":    []string{"ce-specversion", "ce-id", "ce-source", "ce-type"},
		"properties": map[string]any{
			"ce-specversion":     map[string]any{"const": "1.0"},
			"ce-id":              text("unique within the source; the broker forgets a second message with it"),
			"ce-source":          text("who says so"),
			"ce-type":            text("name and major version of the event's type"),
			"ce-subject":         text("what it is about"),
			"ce-time":            map[string]any{"type": "string", "format": "date-time", "description": "event time: when it happened"},
			"ce-datacontenttype": text("application/json"),
			"ce-dataschema":      text("address of the payload's schema, with major and minor version"),
			"ce-correlationid":   text("what everything belongs to: the order"),
			"ce-causationid":     text("id of the event that this one answers"),
			"ce-partitionkey":    text("events of one key are handled in order"),
			"ce-sequence":        text("version of the aggregate, ten digits"),
			"traceparent":        text("W3C trace context"),
			"ce-attempt":         text("which attempt of the handler stored the event, where it was not the first"),
			"tracestate":         text("W3C trace context"),
		},
	}
}

// headersOf are the headers of one type: the envelope, with what is fixed for the type.
func headersOf(eventType string) map[string]any {
	return map[string]any{
		"type":  "object",
		"allOf": []any{ref{"#/components/schemas/" + envelope}},
		"properties": map[string]any{
			"ce-type":       map[string]any{"const": eventType},
			"ce-dataschema": map[string]any{"const": events.SchemaURI(eventType)},
		},
	}
}
