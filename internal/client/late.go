package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// BackfillReport is what a backfill did to one query.
type BackfillReport struct {
	Query     string       `json:"query"`
	Sequence  uint64       `json:"sequence"`
	Late      int          `json:"late"`
	Published int          `json:"published"`
	Retracted int          `json:"retracted"`
	Unchanged int          `json:"unchanged"`
	Pending   int          `json:"pending"`
	Lost      int          `json:"lost"`
	Expired   uint64       `json:"expired"`
	Examples  []LostWindow `json:"lost_windows,omitempty"`
}

// LostWindow is a window that can't be made good.
type LostWindow struct {
	Key   string    `json:"key"`
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Backfill is one job.
type Backfill struct {
	ID      string           `json:"id"`
	State   string           `json:"state"`
	Query   string           `json:"query,omitempty"`
	DryRun  bool             `json:"dry_run,omitempty"`
	Asked   time.Time        `json:"asked_at"`
	Updated time.Time        `json:"updated_at"`
	Error   string           `json:"error,omitempty"`
	Reports []BackfillReport `json:"queries"`
}

// Ended says whether the job is over, however it went.
func (b *Backfill) Ended() bool { return b.State != "waiting" && b.State != "running" }

// Done says whether it has done all that there was to do.
func (b *Backfill) Done() bool { return b.State == "done" }

// StartBackfill starts a backfill of one query, or of all where it is empty.
func (c *Client) StartBackfill(ctx context.Context, query string, dry bool) (Backfill, error) {
	var b Backfill
	body, err := json.Marshal(map[string]any{"query": query, "dry_run": dry})
	if err != nil {
		return b, err
	}
	// Doing it twice does no harm.
	_, err = c.do(ctx, request{
		method: http.MethodPost, path: "/v1/backfills", header: http.Header{"Content-Type": {"application/json"}}, body: body, repeatable: true,
	}, &b)
	return b, err
}

const (
	backfillLook     = 50 * time.Millisecond
	backfillLookMost = time.Second
)

// AwaitBackfill waits until a job has ended. told, where it is not nil, is called at each look.
func (c *Client) AwaitBackfill(ctx context.Context, id string, told func(Backfill)) (Backfill, error) {
	for wait := backfillLook; ; wait = min(2*wait, backfillLookMost) {
		var b Backfill
		if err := c.get(ctx, "/v1/backfills/"+segment(id), nil, &b); err != nil {
			return b, err
		}
		if b.Ended() {
			return b, nil
		}
		if told != nil {
			told(b)
		}
		if err := pause(ctx, wait); err != nil {
			return b, err
		}
	}
}

// Lateness is how late one query's events are, and what wait that calls for. All durations are milliseconds.
type Lateness struct {
	Query    string          `json:"query"`
	Windows  string          `json:"windows"`
	From     *time.Time      `json:"from,omitempty"`
	Until    *time.Time      `json:"until,omitempty"`
	Events   uint64          `json:"events"`
	Slack    uint64          `json:"had_slack"`
	Longer   uint64          `json:"longer"`
	Now      WaitCost        `json:"now"`
	Proposed WaitCost        `json:"proposed"`
	Target   LatenessTarget  `json:"target"`
	Reached  bool            `json:"reached"`
	Curve    []LatenessPoint `json:"curve"`
}

// LatenessTarget is the shares of events that are wanted in the first result, and before the window is gone.
type LatenessTarget struct {
	OnTime float64 `json:"on_time"`
	Final  float64 `json:"final"`
}

// LatenessPoint is the share of events that a wait catches.
type LatenessPoint struct {
	WaitMS int64   `json:"wait_ms"`
	Share  float64 `json:"share"`
}

// WaitCost is what a bound and an allowed lateness give and cost.
type WaitCost struct {
	BoundMS     int64   `json:"bound_ms"`
	LatenessMS  int64   `json:"lateness_ms"`
	OnTime      float64 `json:"on_time"`
	Final       float64 `json:"final"`
	Refinements float64 `json:"refinements"`
	LatencyMS   int64   `json:"latency_ms"`
	Cells       int     `json:"cells"`
	IDs         int     `json:"ids"`
	StateBytes  int     `json:"state_bytes"`
}

// Lateness asks how late events are: of one query, or of all where it is empty.
func (c *Client) Lateness(ctx context.Context, query string, target LatenessTarget) ([]Lateness, error) {
	values := url.Values{"on_time": {strconv.FormatFloat(target.OnTime, 'g', -1, 64)}, "final": {strconv.FormatFloat(target.Final, 'g', -1, 64)}}
	if query != "" {
		values.Set("query", query)
	}
	var page struct {
		Items []Lateness `json:"items"`
	}
	err := c.get(ctx, "/v1/lateness", values, &page)
	return page.Items, err
}
