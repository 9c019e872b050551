package analytics

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/window"
)

type windowsInput struct {
	Query  string    `query:"query" required:"true" doc:"Which query." example:"orders-per-minute"`
	From   time.Time `query:"from" doc:"Windows that start at this time or later."`
	To     time.Time `query:"to" doc:"Windows that start before this time."`
	Cursor string    `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before."`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type windowsOutput struct {
	Body windowsPage
}

type windowsPage struct {
	Items      []windowItem `json:"items" doc:"By start, then key."`
	Unit       string       `json:"unit" doc:"What value counts."`
	Watermark  *time.Time   `json:"watermark,omitempty" doc:"Every event before it is presumed seen. Absent before the first event."`
	Counted    uint64       `json:"counted" doc:"Events in some window, since the beginning."`
	Late       uint64       `json:"late" doc:"Events that came after their window had closed, or are dated ahead. They are in no window."`
	NextCursor string       `json:"next_cursor,omitempty"`
}

type windowItem struct {
	Query    string    `json:"query"`
	Key      string    `json:"key"`
	Start    time.Time `json:"start"`
	End      time.Time `json:"end" doc:"Not in the window any more."`
	Value    int64     `json:"value"`
	Count    int64     `json:"count" doc:"How many events."`
	Revision int       `json:"revision" doc:"0 while the window is open."`
	Timing   string    `json:"timing" enum:"open,on_time,late,backfill,retract"`
}

type projectionOutput struct {
	Body projection
}

type projection struct {
	Name       string            `json:"name"`
	Position   map[string]uint64 `json:"position" doc:"The last sequence that was read, by stream."`
	Unreadable uint64            `json:"unreadable" doc:"Events that could not be read. Each is a dead letter."`
	Queries    []queryStanding   `json:"queries"`
}

type queryStanding struct {
	Query      string     `json:"query"`
	Read       uint64     `json:"read" doc:"counted + late + duplicates + unreadable"`
	Counted    uint64     `json:"counted"`
	Late       uint64     `json:"late"`
	Duplicates uint64     `json:"duplicates"`
	Unreadable uint64     `json:"unreadable"`
	Watermark  *time.Time `json:"watermark,omitempty"`
}

// Routes registers the service's HTTP operations.
func (s *Service) Routes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-windows", Method: http.MethodGet, Path: "/v1/windows", Tags: []string{"analytics"},
		Summary:     "Windows of event time, closed and open",
		Description: "Open windows come with timing \"open\" and revision 0. An instance that stands by knows closed windows only.",
	}, s.listWindows)
	huma.Register(api, huma.Operation{
		OperationID: "windows-projection", Method: http.MethodGet, Path: "/v1/projections/windows", Tags: []string{"analytics"},
		Summary: "How far the counting has come",
	}, s.projection)
	s.clicks.routes(api)
}

func (s *Service) listWindows(ctx context.Context, in *windowsInput) (*windowsOutput, error) {
	q := s.find(in.Query)
	if q == nil {
		return nil, huma.Error404NotFound(fmt.Sprintf("no query %q; there are %s", in.Query, s.names()))
	}
	after, err := readCursor(in.Cursor)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("cursor: not one of this listing", &huma.ErrorDetail{Location: "query.cursor", Message: err.Error(), Value: in.Cursor})
	}
	from, to := int64(math.MinInt64), int64(math.MaxInt64)
	if !in.From.IsZero() {
		from = in.From.UnixMilli()
	}
	if !in.To.IsZero() {
		to = in.To.UnixMilli()
	}
	var page []result
	now, err := s.worker.view.look(ctx, func(now standing) {
		page = s.index.list(q.name, from, to, after, in.Limit+1)
		page = appendOpen(page, now.open[q.name], from, to, after, in.Limit+1)
	})
	if err != nil {
		return nil, unavailable(err)
	}
	standing := now.queries[q.name]
	out := windowsPage{Items: []windowItem{}, Unit: q.unit, Counted: standing.Counted, Late: standing.Late, Watermark: timeOf(standing.Watermark)}
	if len(page) > in.Limit {
		page = page[:in.Limit]
		out.NextCursor = writeCursor(position{page[in.Limit-1].Start, page[in.Limit-1].Key})
	}
	for _, r := range page {
		out.Items = append(out.Items, windowItem{
			Query: q.name, Key: r.Key, Start: time.UnixMilli(r.Start).UTC(), End: time.UnixMilli(r.End).UTC(),
			Value: r.Value, Count: r.Count, Revision: r.Revision, Timing: r.Timing,
		})
	}
	return &windowsOutput{Body: out}, nil
}

// appendOpen adds the open windows. They come behind the closed ones: the watermark lies between.
func appendOpen(page []result, open []window.Result, from, to int64, after *position, limit int) []result {
	for _, w := range open {
		if len(page) == limit {
			break
		}
		if w.Start < from || w.Start >= to || after != nil && (position{w.Start, w.Key}).compare(*after) <= 0 {
			continue
		}
		page = append(page, resultOf(0, w))
	}
	return page
}

func (s *Service) projection(ctx context.Context, _ *struct{}) (*projectionOutput, error) {
	now, err := s.worker.view.look(ctx, nil)
	if err != nil {
		return nil, unavailable(err)
	}
	out := projection{Name: "windows", Position: map[string]uint64{events.StreamTimeline: now.sequence}, Unreadable: now.unreadable, Queries: []queryStanding{}}
	for _, q := range s.queries {
		r := now.queries[q.name]
		out.Queries = append(out.Queries, queryStanding{
			Query: q.name, Read: r.Read, Counted: r.Counted, Late: r.Late, Duplicates: r.Duplicates, Unreadable: r.Unreadable, Watermark: timeOf(r.Watermark),
		})
	}
	return &projectionOutput{Body: out}, nil
}

func (s *Service) find(name string) *query {
	for i := range s.queries {
		if s.queries[i].name == name {
			return &s.queries[i]
		}
	}
	return nil
}

func (s *Service) names() string {
	names := make([]string, len(s.queries))
	for i, q := range s.queries {
		names[i] = q.name
	}
	return strings.Join(names, ", ")
}

func timeOf(ms *int64) *time.Time {
	if ms == nil {
		return nil
	}
	t := time.UnixMilli(*ms).UTC()
	return &t
}

func writeCursor(p position) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.start, 10) + "/" + p.key))
}

func readCursor(s string) (*position, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no cursor is the first page
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	start, key, _ := strings.Cut(string(raw), "/")
	ms, err := strconv.ParseInt(start, 10, 64)
	if err != nil {
		return nil, err
	}
	return &position{ms, key}, nil
}

func unavailable(err error) error {
	return huma.ErrorWithHeaders(huma.Error503ServiceUnavailable("the event log does not answer; try again", err), http.Header{"Retry-After": {"1"}})
}
