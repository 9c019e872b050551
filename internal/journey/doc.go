// Package journey tells what happened to one order, from the logs alone: every event about it in the order of storing, each with what it waited for, the dead letters that were made
// of them, and what was done about those. It needs no trace and no collector; where events carry a trace, it names it.
package journey

import (
	"strings"
	"time"
)

// Journey is an order's way.
type Journey struct {
	Order  string `json:"order"`
	Trace  string `json:"trace_id,omitempty"` // of the request that placed it
	Jaeger string `json:"jaeger,omitempty"`   // where to look at it
	Steps  []Step `json:"steps"`
}

// Step is one stored message: an event, a dead letter, or what was done about one.
type Step struct {
	At        time.Time     `json:"at"`                // the broker's store time
	Lag       time.Duration `json:"lag_ns"`            // since what caused it was stored; for a dead letter, since its event was; else since the step before
	What      string        `json:"what"`              // the event's type; or "dead letter", "replay", …
	Stream    string        `json:"stream"`            //
	Sequence  uint64        `json:"sequence"`          // in the stream
	Partition int           `json:"partition"`         //
	Attempt   int           `json:"attempt,omitempty"` // which call of the handler stored the event; of a dead letter: how many failed
	Group     string        `json:"group,omitempty"`   // of a dead letter
	Event     string        `json:"event_id,omitempty"`
	Cause     string        `json:"causation_id,omitempty"`
	Trace     string        `json:"trace_id,omitempty"`
	Span      string        `json:"span_id,omitempty"`
	Detail    string        `json:"detail,omitempty"`
}

// TraceID is the trace of a traceparent, or empty.
func TraceID(traceparent string) string { trace, _ := split(traceparent); return trace }

func split(traceparent string) (trace, span string) {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 || len(parts[2]) != 16 {
		return "", ""
	}
	return parts[1], parts[2]
}

// Link is the address of a trace in the Jaeger at url; empty where one of them is.
func Link(url, trace string) string {
	if url == "" || trace == "" {
		return ""
	}
	return strings.TrimSuffix(url, "/") + "/trace/" + trace
}
