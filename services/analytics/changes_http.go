package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
)

type changesInput struct {
	Query string   `query:"query" doc:"Of this query only." example:"orders-per-minute"`
	Key   keyParam `query:"key" doc:"Of this key only; it may be empty."`
	Last  uint64   `header:"Last-Event-ID" doc:"The id of the last event that the reader has: what came out behind it is told first."`
}

func (s *Service) changesRoutes(api huma.API, reads access.Requirement) {
	item := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[windowItem](), true, "WindowItem")
	huma.Register(api, huma.Operation{
		OperationID: "watch-windows", Method: http.MethodGet, Path: "/v1/windows/changes", Tags: []string{"analytics"}, Security: reads,
		Summary: "Results as they come out, as server-sent events",
		Description: "Each event is a result as GET /v1/windows gives it, also with timing retract; its id is its sequence in WINDOWS. A reader that comes back with Last-Event-ID misses nothing. " +
			"Every 15 seconds there is a comment. An event of type end is the last one: its data says why (slow: the reader did not keep up; stopping).",
		Responses: map[string]*huma.Response{"200": {
			Description: "A stream that does not end by itself", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: item}},
		}},
		Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, s.watch)
}

func (s *Service) watch(ctx context.Context, in *changesInput) (*huma.StreamResponse, error) {
	if in.Query != "" && s.plan.find(in.Query) == nil {
		return nil, s.noQuery(in.Query)
	}
	server, _ := ctx.Value(http.ServerContextKey).(*http.Server)
	s.feed.endWith(server)
	var key *string
	if in.Key.IsSet {
		short := shorten(in.Key.Value)
		key = &short
	}
	r := s.feed.join(in.Query, key)
	if r == nil {
		return nil, huma.ErrorWithHeaders(huma.Error503ServiceUnavailable(fmt.Sprintf("%d readers watch already, or the server stops", s.feed.most)), http.Header{"Retry-After": {"5"}})
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer func() { s.feed.leave(r) }()
		hc.SetHeader("Content-Type", "text/event-stream")
		hc.SetHeader("Cache-Control", "no-store")
		hc.SetHeader("X-Accel-Buffering", "no") // for proxies that buffer
		w, ok := hc.BodyWriter().(http.ResponseWriter)
		if !ok {
			return
		}
		out := &eventStream{w: w, control: http.NewResponseController(w), last: in.Last}
		if err := s.stream(hc.Context(), r, out); errors.Is(err, errEnded) {
			_ = out.end(r.why) // a reader that is gone needs no farewell
		}
	}}, nil
}

// errEnded says that the feed tells a reader no more.
var errEnded = errors.New("the reader is told no more")

// stream writes what the reader missed and then what comes, until it is gone or cut off.
func (s *Service) stream(ctx context.Context, r *reader, out *eventStream) error {
	if err := out.comment("the results as they come out"); err != nil {
		return err
	}
	if out.last > 0 {
		if err := s.missed(ctx, r, out); err != nil {
			return err
		}
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ended:
			return errEnded
		case <-beat.C:
			err = out.comment("")
		case c := <-r.room:
			err = out.send(&c)
		}
		if err != nil {
			return err
		}
	}
}

// missed tells what is stored behind the last event that the reader has. What comes meanwhile waits in its room; where that is not enough, it comes back.
func (s *Service) missed(ctx context.Context, r *reader, out *eventStream) error {
	what := reading{stream: events.StreamWindows, from: out.last + 1}
	for _, q := range s.plan.queries {
		if r.query == "" || r.query == q.Name {
			what.filters = append(what.filters, s.worker.publisher.subjects.WindowsOf(q.Name))
		}
	}
	return readMatching(ctx, s.worker.js, what, func(m *jetstream.RawStreamMsg) error {
		select {
		case <-r.ended:
			return errEnded
		default:
		}
		w, err := resultIn(m)
		if err != nil {
			return nil //nolint:nilerr // the follower has logged it
		}
		if c := changeOf(m.Sequence, &w.WindowResult); r.wants(&c.item) {
			return out.send(&c)
		}
		return nil
	})
}

// eventStream writes server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	last    uint64
}

// send writes a result, unless the reader has it.
func (o *eventStream) send(c *change) error {
	if c.sequence <= o.last {
		return nil
	}
	data, err := json.Marshal(&c.item)
	if err != nil {
		return err
	}
	o.last = c.sequence
	return o.write(fmt.Sprintf("id: %d\ndata: %s\n\n", c.sequence, data))
}

func (o *eventStream) comment(text string) error { return o.write(": " + text + "\n\n") }

func (o *eventStream) end(why string) error {
	return o.write(fmt.Sprintf("event: end\ndata: {\"reason\":%q}\n\n", why))
}

// write gives the reader a time of its own: the server's is for answers that end.
func (o *eventStream) write(text string) error {
	_ = o.control.SetReadDeadline(time.Time{}) // where there is no connection there is no deadline
	_ = o.control.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := o.w.Write([]byte(text)); err != nil {
		return err
	}
	return o.control.Flush()
}
