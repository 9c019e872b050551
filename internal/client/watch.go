package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxEventLine bounds one line of a stream of events, in bytes.
const maxEventLine = 1 << 20

// WatchWindows calls fn with each result as it comes out, until ctx ends or fn returns an error. Where the stream breaks off it goes on behind the last result, so
// nothing is missed and nothing told twice; lost, where it is not nil, is told of it. An answer that is no stream, such as 404, ends it.
func (c *Client) WatchWindows(ctx context.Context, f WindowFilter, fn func(Window) error, lost func(error)) error {
	query := url.Values{}
	if f.Query != "" {
		query.Set("query", f.Query)
	}
	if f.Key != nil {
		query.Set("key", *f.Key)
	}
	const shortest, longest = 100 * time.Millisecond, 2 * time.Second
	last, wait := "", shortest
	for {
		err := c.watchOnce(ctx, query, &last, func(w Window) error {
			wait = shortest
			return fn(w)
		})
		var stop *stopError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.err
		case !down(err):
			return fmt.Errorf("GET %s: %w", changesPath, err)
		}
		if lost != nil {
			lost(err)
		}
		if err := pause(ctx, max(wait, retryAfter(err))); err != nil {
			return err
		}
		wait = min(2*wait, longest)
	}
}

const changesPath = "/v1/windows/changes"

// stopError is the caller's wish to end.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

var errStreamEnded = errors.New("the stream has ended")

func (c *Client) watchOnce(ctx context.Context, query url.Values, last *string, fn func(Window) error) error {
	r := request{method: http.MethodGet, path: changesPath, query: query, header: http.Header{}}
	if *last != "" {
		r.header.Set("Last-Event-ID", *last)
	}
	res, err := c.open(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read only: nothing can be lost
	if res.StatusCode != http.StatusOK {
		return problem(res, nil)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEventLine)
	var id, kind, data string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data = value
		}
		if lines.Text() != "" || data == "" {
			continue
		}
		if kind == "end" {
			return fmt.Errorf("%w: %s", errStreamEnded, data)
		}
		var w Window
		if err := json.Unmarshal([]byte(data), &w); err != nil {
			return fmt.Errorf("%w: %w", ErrAnswer, err)
		}
		if err := fn(w); err != nil {
			return &stopError{err}
		}
		if _, err := strconv.ParseUint(id, 10, 64); err == nil {
			*last = id
		}
		id, kind, data = "", "", ""
	}
	return errors.Join(errStreamEnded, lines.Err())
}
