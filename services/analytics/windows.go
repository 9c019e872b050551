package analytics

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/window"
)

type windowsInput struct {
	Query  string    `query:"query" required:"true" doc:"Which query." example:"orders-per-minute"`
	Key    keyParam  `query:"key" doc:"Windows of this key only, such as a currency or a customer; it may be empty."`
	From   time.Time `query:"from" doc:"Windows that start at this time or later."`
	To     time.Time `query:"to" doc:"Windows that start before this time."`
	Cursor string    `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before."`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// keyParam tells a key that is empty from none.
type keyParam struct {
	Value string
	IsSet bool
}

// Schema is that of the value.
func (keyParam) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeString} }

// Receiver and OnParamSet are how huma fills it.
func (k *keyParam) Receiver() reflect.Value { return reflect.ValueOf(k).Elem().Field(0) }

// OnParamSet notes whether the parameter is there.
func (k *keyParam) OnParamSet(isSet bool, _ any) { k.IsSet = isSet }

type windowsOutput struct {
	Body windowsPage
}

type windowsPage struct {
	Items      []windowItem `json:"items" doc:"By start, then key."`
	Unit       string       `json:"unit" doc:"What value counts."`
	Watermark  *time.Time   `json:"watermark,omitempty" doc:"Every event before it is presumed seen. Absent before the first event."`
	Counted    uint64       `json:"counted" doc:"Events in some window, since the beginning."`
	Late       uint64       `json:"late" doc:"Events that came after their window had closed, or are dated ahead. They are missing in some window."`
	NextCursor string       `json:"next_cursor,omitempty"`
}

type windowItem struct {
	Query    string        `json:"query"`
	Key      string        `json:"key"`
	Start    time.Time     `json:"start"`
	End      time.Time     `json:"end" doc:"Not in the window any more."`
	Value    int64         `json:"value"`
	Count    int64         `json:"count" doc:"How many events."`
	Top      []events.Rank `json:"top,omitempty" doc:"Of queries that rank: the items with the largest values."`
	Revision int           `json:"revision" doc:"0 while the window is open; a higher one has replaced the ones before."`
	Timing   string        `json:"timing" enum:"open,on_time,late,backfill,retract" doc:"on_time: as it came out first; late: corrected by an event that came behind the watermark."`
	Sequence uint64        `json:"sequence,omitempty" doc:"Of TIMELINE: the message that made it come out."`
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
	Query         string     `json:"query"`
	Position      uint64     `json:"position" doc:"The last sequence of TIMELINE that it has read: behind the others' while a new query reads history."`
	Read          uint64     `json:"read" doc:"counted + late + duplicates + unreadable"`
	Counted       uint64     `json:"counted"`
	Late          uint64     `json:"late" doc:"partially_late + too_late + future_skew + no_id"`
	PartiallyLate uint64     `json:"partially_late" doc:"Some of their windows were gone; the others have them, so they are in windows too."`
	TooLate       uint64     `json:"too_late"`
	FutureSkew    uint64     `json:"future_skew"`
	NoID          uint64     `json:"no_id"`
	Duplicates    uint64     `json:"duplicates"`
	Unreadable    uint64     `json:"unreadable"`
	Watermark     *time.Time `json:"watermark,omitempty"`
	Gone          *time.Time `json:"gone,omitempty" doc:"Windows that end here or before take no event any more."`
	Mode          string     `json:"mode" doc:"per-event, or when micro-batches end."`
}

// Routes registers the service's HTTP operations.
func (s *Service) Routes(api huma.API) {
	reads := access.Any(access.OrdersRead, access.Operator)
	huma.Register(api, huma.Operation{
		OperationID: "list-windows", Method: http.MethodGet, Path: "/v1/windows", Tags: []string{"analytics"}, Security: reads,
		Summary:     "Windows of event time, closed and open",
		Description: "Open windows come with timing \"open\" and revision 0; in a micro-batch, windows that have ended and wait for the batch's end are not listed for that time. An instance that stands by knows windows that came out only.",
	}, s.listWindows)
	huma.Register(api, huma.Operation{
		OperationID: "windows-projection", Method: http.MethodGet, Path: "/v1/projections/windows", Tags: []string{"analytics"}, Security: reads,
		Summary: "How far the counting has come",
	}, s.projection)
	s.changesRoutes(api, reads)
	s.latenessRoutes(api, reads)
	s.backfillRoutes(api)
	s.clicks.routes(api)
}

func (s *Service) noQuery(name string) error {
	return huma.Error404NotFound(fmt.Sprintf("no query %q; there are %s", name, strings.Join(s.plan.names(), ", ")))
}

func (s *Service) listWindows(ctx context.Context, in *windowsInput) (*windowsOutput, error) {
	q := s.plan.find(in.Query)
	if q == nil {
		return nil, s.noQuery(in.Query)
	}
	after, err := readCursor(in.Cursor)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("cursor: not one of this listing", &huma.ErrorDetail{Location: "query.cursor", Message: err.Error(), Value: in.Cursor})
	}
	f := selection{from: math.MinInt64, to: math.MaxInt64, after: after, limit: in.Limit + 1}
	if !in.From.IsZero() {
		f.from = in.From.UnixMilli()
	}
	if !in.To.IsZero() {
		f.to = in.To.UnixMilli()
	}
	if in.Key.IsSet {
		key := shorten(in.Key.Value)
		f.key = &key
	}
	var out windowsPage
	err = s.worker.view.look(ctx, func(now standing) {
		out = s.page(q, &f, now)
	})
	if err != nil {
		return nil, unavailable(err)
	}
	return &windowsOutput{Body: out}, nil
}

// page is one page of a listing. It is called while no commit comes in between.
func (s *Service) page(q *asked, f *selection, now standing) windowsPage {
	rows := merge(s.index.list(q.Name, f), now.notOut(q.Name), f)
	stands := now.queries[q.Name]
	out := windowsPage{Items: []windowItem{}, Unit: q.Unit, Counted: stands.Counted, Late: stands.Late, Watermark: timeOf(stands.Watermark)}
	if len(rows) == f.limit {
		rows = rows[:f.limit-1]
		end := rows[len(rows)-1]
		out.NextCursor = writeCursor(position{end.Start, end.Key})
	}
	for _, r := range rows {
		out.Items = append(out.Items, windowItem{
			Query: q.Name, Key: r.Key, Start: time.UnixMilli(r.Start).UTC(), End: time.UnixMilli(r.End).UTC(),
			Value: r.Value, Count: r.Count, Top: r.Top, Revision: r.Revision, Timing: r.Timing, Sequence: r.Sequence,
		})
	}
	return out
}

// merge puts what has not come out between the rows of what has. Of two with the same start and key, as of a session that was retracted and is open again, the one that is
// not out is the later one.
func merge(rows []result, notOut []window.Result, f *selection) []result {
	var more []result
	for i := range notOut {
		if f.takes(position{notOut[i].Start, notOut[i].Key}) {
			more = append(more, resultOf(&notOut[i]))
		}
	}
	place := func(r *result) position { return position{r.Start, r.Key} }
	slices.SortFunc(more, func(a, b result) int { return place(&a).compare(place(&b)) })
	out := make([]result, 0, min(len(rows)+len(more), f.limit))
	for len(out) < f.limit && len(rows)+len(more) > 0 {
		switch {
		case len(more) == 0 || len(rows) > 0 && place(&rows[0]).compare(place(&more[0])) < 0:
			out, rows = append(out, rows[0]), rows[1:]
		default:
			if len(rows) > 0 && place(&rows[0]) == place(&more[0]) {
				rows = rows[1:]
			}
			out, more = append(out, more[0]), more[1:]
		}
	}
	return out
}

func (s *Service) projection(ctx context.Context, _ *struct{}) (*projectionOutput, error) {
	out := projection{Name: "windows"}
	err := s.worker.view.look(ctx, func(now standing) {
		out.Position, out.Unreadable, out.Queries = map[string]uint64{events.StreamTimeline: now.sequence}, now.unreadable, []queryStanding{}
		for _, q := range s.plan.queries {
			r, known := now.queries[q.Name]
			if !known {
				r.Mode = q.settings.Mode
			}
			out.Queries = append(out.Queries, standingOfQuery(q.Name, &r))
		}
	})
	if err != nil {
		return nil, unavailable(err)
	}
	return &projectionOutput{Body: out}, nil
}

func standingOfQuery(name string, r *queryRecord) queryStanding {
	return queryStanding{
		Query: name, Position: r.Sequence, Read: r.Read, Counted: r.Counted, Late: r.Late,
		PartiallyLate: r.PartiallyLate, TooLate: r.TooLate, FutureSkew: r.FutureSkew, NoID: r.NoID, Duplicates: r.Duplicates, Unreadable: r.Unreadable,
		Watermark: timeOf(r.Watermark), Gone: timeOf(r.Gone), Mode: r.Mode.String(),
	}
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
