package analytics

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/services/analytics/lateness"
)

type latenessInput struct {
	Query  string  `query:"query" doc:"Of this query only." example:"orders-per-minute"`
	OnTime float64 `query:"on_time" exclusiveMinimum:"0" maximum:"1" default:"0.99" doc:"Wanted share of events that are in the result when it comes out first."`
	Final  float64 `query:"final" exclusiveMinimum:"0" maximum:"1" default:"0.9999" doc:"Wanted share of events that are in it before its window is gone; the rest needs a backfill."`
}

type latenessOutput struct{ Body latenessPage }

type latenessPage struct {
	Items []queryLateness `json:"items"`
}

type queryLateness struct {
	Query    string          `json:"query"`
	Windows  string          `json:"windows"`
	From     *time.Time      `json:"from,omitempty" doc:"Store time of what was measured: the last 24 hours that had events."`
	Until    *time.Time      `json:"until,omitempty"`
	Events   uint64          `json:"events" doc:"Measured. Those that came before the query had a watermark, duplicates and events dated ahead are not."`
	Slack    uint64          `json:"had_slack" doc:"Of these, how many came before their window had ended."`
	Longer   uint64          `json:"longer" doc:"Of these, how many were more than a day late: history that was loaded, mostly."`
	Now      waitCost        `json:"now" doc:"With the settings that hold."`
	Proposed waitCost        `json:"proposed" doc:"With what reaches the target. It is advice; nothing changes by it."`
	Target   latenessTarget  `json:"target"`
	Reached  bool            `json:"reached" doc:"false: even a day of waiting would not reach the target."`
	Curve    []latenessPoint `json:"curve" doc:"The share of events that each wait catches."`
}

type latenessTarget struct {
	OnTime float64 `json:"on_time"`
	Final  float64 `json:"final"`
}

type latenessPoint struct {
	WaitMS int64   `json:"wait_ms"`
	Share  float64 `json:"share"`
}

type waitCost struct {
	BoundMS     int64   `json:"bound_ms"`
	LatenessMS  int64   `json:"lateness_ms"`
	OnTime      float64 `json:"on_time" doc:"Share of events in the first result."`
	Final       float64 `json:"final" doc:"Share of events in the result before the window is gone."`
	Refinements float64 `json:"refinements" doc:"Share of events that make a result come out once more."`
	LatencyMS   int64   `json:"latency_ms" doc:"From a window's end to its first result."`
	Cells       int     `json:"cells" doc:"Values held at most. Measured with the settings that hold; else in proportion to how many windows live at once."`
	IDs         int     `json:"ids" doc:"Ids of events held at most, 16 bytes each where they are stored."`
	StateBytes  int     `json:"state_bytes" doc:"What the query holds at most, as it is stored."`
}

func (s *Service) latenessRoutes(api huma.API, reads access.Requirement) {
	huma.Register(api, huma.Operation{
		OperationID: "get-lateness", Method: http.MethodGet, Path: "/v1/lateness", Tags: []string{"analytics"}, Security: reads,
		Summary: "How late events are, and what wait that calls for",
		Description: "For each query: what share of its events each wait would catch, and the bound and allowed lateness that reach a target, with what they cost. " +
			"It is measured over the last 24 hours of store time. An instance that stands by does not know it.",
		Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, s.lateness)
}

func (s *Service) lateness(ctx context.Context, in *latenessInput) (*latenessOutput, error) {
	target := lateness.Target{OnTime: in.OnTime, Final: in.Final}
	if err := target.Validate(); err != nil {
		return nil, huma.Error422UnprocessableEntity("target", &huma.ErrorDetail{Location: "query.final", Message: err.Error(), Value: in.Final})
	}
	if in.Query != "" && s.plan.find(in.Query) == nil {
		return nil, s.noQuery(in.Query)
	}
	page := latenessPage{Items: []queryLateness{}}
	mine, err := s.worker.view.own(ctx, func(now standing) {
		for _, r := range now.state.running {
			if in.Query == "" || in.Query == r.Name {
				page.Items = append(page.Items, r.howLate(target))
			}
		}
	})
	if err != nil {
		return nil, unavailable(err)
	}
	if !mine {
		return nil, huma.ErrorWithHeaders(huma.Error503ServiceUnavailable("this instance stands by, and only the one that counts knows; try again"), http.Header{"Retry-After": {"1"}})
	}
	return &latenessOutput{Body: page}, nil
}

func (r *running) howLate(target lateness.Target) queryLateness {
	d := r.lateness.Sum()
	a := lateness.Advise(d, lateness.Setting{Windows: r.Windows, Bound: r.settings.Bound, Lateness: r.settings.Lateness}, target)
	out := queryLateness{
		Query: r.Name, Windows: r.Windows.String(), Events: d.Events(), Slack: d.Slack, Longer: d.Longer,
		Now: costOf(a.Now), Proposed: costOf(a.Proposed), Target: latenessTarget(a.Target), Reached: a.Reached,
	}
	if d.Events() > 0 {
		out.From, out.Until = timeOf(&d.From), timeOf(&d.Until)
	}
	for _, p := range a.Curve {
		out.Curve = append(out.Curve, latenessPoint{WaitMS: p.Wait.Milliseconds(), Share: p.Share})
	}
	return out
}

func costOf(c lateness.Cost) waitCost {
	return waitCost{
		BoundMS: c.Bound.Milliseconds(), LatenessMS: c.Lateness.Milliseconds(), OnTime: c.OnTime, Final: c.Final, Refinements: c.Refinements,
		LatencyMS: c.Latency.Milliseconds(), Cells: c.Peak.Cells, IDs: c.Peak.IDs, StateBytes: c.PeakBytes,
	}
}
