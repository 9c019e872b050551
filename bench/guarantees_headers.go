package main

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// headers are those of one real event of each kind, as the services have stored it. A message gets a map of its own with them, where the ids are its own.
type headers map[string]nats.Header

const headerID = "ce-id"

func (h headers) of(kind, order string) nats.Header {
	model := h[kind]
	header := make(nats.Header, len(model)+6) // with room for an id and a lock, as ours
	maps.Copy(header, model)
	self := []string{order}
	header["ce-subject"], header["ce-partitionkey"], header["ce-correlationid"] = self, self, self
	header[headerID] = []string{kind[:3] + order[3:]}
	return header
}

// readHeaders takes the newest event of each kind from the services' own streams.
func readHeaders(ctx context.Context, js jetstream.JetStream) (headers, error) {
	h := headers{}
	for name, kinds := range map[string][]string{
		events.StreamTimers: {kindTimer}, events.StreamOrders: {kindPlaced, kindConfirmed},
		events.StreamStock: {kindReserved, kindCommitted}, events.StreamNotices: {kindNotice},
	} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, kind := range kinds {
			if h[kind], err = newest(ctx, stream, kind); err != nil {
				return nil, fmt.Errorf("read headers from %s: %w", name, err)
			}
		}
	}
	return h, nil
}

// newest has the headers of a stream's last event of a kind. It looks from the end, where there are all kinds, but for the orders that were open together.
func newest(ctx context.Context, stream jetstream.Stream, kind string) (nats.Header, error) {
	for sequence := stream.CachedInfo().State.LastSeq; sequence > 0; sequence-- {
		m, err := stream.GetMsg(ctx, sequence)
		if err != nil {
			return nil, fmt.Errorf("sequence %d: %w", sequence, err)
		}
		if kindOf(m.Header) == kind {
			return ofEvent(m.Header), nil
		}
	}
	return nil, fmt.Errorf("no message %q is stored", kind)
}

// ofEvent leaves out what the broker has written, and what a lock or a schedule has.
func ofEvent(all nats.Header) nats.Header {
	own := nats.Header{}
	for name, values := range all {
		if !strings.HasPrefix(name, "Nats-") {
			own[name] = values
		}
	}
	return own
}

func kindOf(h nats.Header) string {
	values := h["ce-type"]
	if len(values) == 0 {
		return ""
	}
	switch values[0] {
	case events.TypeOrderDeadline:
		return kindTimer
	case events.TypeOrderPlaced:
		return kindPlaced
	case events.TypeStockReserved:
		return kindReserved
	case events.TypeOrderConfirmed:
		return kindConfirmed
	case events.TypeStockCommitted:
		return kindCommitted
	case events.TypeNoticeSkipped, events.TypeNoticeSent:
		return kindNotice
	}
	return ""
}
