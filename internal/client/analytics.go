package client

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// PostClicks sends clicks as one batch, at most 1,000, and returns how many were accepted. It is repeated while the API is down:
// a click that is stored twice under one id counts once.
func (c *Client) PostClicks(ctx context.Context, clicks []events.Event) (int, error) {
	var body bytes.Buffer
	body.WriteByte('[')
	for i := range clicks {
		raw, err := events.EncodeJSON(&clicks[i])
		if err != nil {
			return 0, fmt.Errorf("click %d: %w", i, err)
		}
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(raw)
	}
	body.WriteByte(']')
	var out struct {
		Accepted int `json:"accepted"`
	}
	header := http.Header{"Content-Type": {events.ContentTypeBatch}}
	_, err := c.do(ctx, request{method: http.MethodPost, path: "/v1/clicks", header: header, body: body.Bytes(), repeatable: true}, &out)
	return out.Accepted, err
}

// Window is one window of a query.
type Window struct {
	Query    string        `json:"query"`
	Key      string        `json:"key"`
	Start    time.Time     `json:"start"`
	End      time.Time     `json:"end"` // exclusive
	Value    int64         `json:"value"`
	Count    int64         `json:"count"`
	Top      []events.Rank `json:"top,omitempty"` // of queries that rank
	Revision int           `json:"revision"`      // 0: open
	Timing   string        `json:"timing"`
	Sequence uint64        `json:"sequence,omitempty"` // of TIMELINE: what made it come out
}

// WindowFilter chooses windows of one query; nil and zero times choose all.
type WindowFilter struct {
	Query    string
	Key      *string
	From, To time.Time
}

// Windows lists the windows of a query, page by page. After an error it ends.
func (c *Client) Windows(ctx context.Context, f WindowFilter) iter.Seq2[Window, error] {
	query := url.Values{"query": {f.Query}, "limit": {strconv.Itoa(pageSize(0))}}
	if f.Key != nil {
		query.Set("key", *f.Key)
	}
	if !f.From.IsZero() {
		query.Set("from", f.From.UTC().Format(time.RFC3339Nano))
	}
	if !f.To.IsZero() {
		query.Set("to", f.To.UTC().Format(time.RFC3339Nano))
	}
	return pages[Window](ctx, c, "/v1/windows", query)
}
