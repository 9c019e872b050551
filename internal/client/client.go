// Package client is a small typed client of Tidemark's HTTP API, for the operator's verbs and for tests.
//
// What is safe to repeat is repeated while the API is down: reads, and writes under an idempotency key. A repeated request is the same
// request: same bytes, same key. So an API that dies between storing and answering costs a second answer, never a second order.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/cenkalti/backoff/v5"
)

// Forever is a [Config].Patience that ends with the context only.
const Forever = time.Duration(math.MaxInt64)

// maxAnswer bounds the answer of one request, in bytes.
const maxAnswer = 64 << 20

var (
	// ErrConfig is wrapped by every error of [New].
	ErrConfig = errors.New("client configuration")
	// ErrKey is wrapped where an idempotency key can't be sent as a header.
	ErrKey = errors.New("idempotency key holds control characters")
	// ErrAnswer is wrapped where a success has an answer that can't be read: whoever answers is not Tidemark.
	ErrAnswer = errors.New("answer can't be read")
)

// Config configures a client.
type Config struct {
	URL      string        // base address, such as http://127.0.0.1:8080; required
	Timeout  time.Duration // of one attempt; default 30 s
	Patience time.Duration // how long a request that is safe to repeat is tried again while the API is down; 0: one attempt
	Conns    int           // connections kept open; default 16
	Token    Token         // sent to URL's host and to no other; nil: none

	// OnRetry, if not nil, is told why a request is tried again and how long the client waits first. It is called by many goroutines.
	OnRetry func(err error, wait time.Duration)
}

// Client calls one address. It is safe for use by many goroutines.
type Client struct {
	base      *url.URL
	http      *http.Client
	transport *http.Transport
	cfg       Config
}

// New checks the configuration. It does not connect.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: url: %w", ErrConfig, err)
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%w: url: is %q, must look like http://127.0.0.1:8080", ErrConfig, cfg.URL)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Conns <= 0 {
		cfg.Conns = 16
	}
	transport := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		// As many idle connections as requests in flight: else each surplus request opens and closes one of its own.
		MaxIdleConns: cfg.Conns, MaxIdleConnsPerHost: cfg.Conns, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
	}
	// No redirects: the API has none, and a token must not go where an answer says.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: base, http: &http.Client{Transport: transport, CheckRedirect: stay}, transport: transport, cfg: cfg}, nil
}

// Close ends the idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// URL is the base address.
func (c *Client) URL() string { return c.base.String() }

// Problem is an answer that is no success, in the shape of RFC 9457.
type Problem struct {
	Status     int            `json:"status"`
	Title      string         `json:"title"`
	Detail     string         `json:"detail"`
	Errors     []ProblemField `json:"errors"`
	RetryAfter time.Duration  `json:"-"` // what the answer asked for; 0: nothing
}

// ProblemField is one field that breaks a rule.
type ProblemField struct {
	Location string `json:"location"`
	Message  string `json:"message"`
}

func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", p.Status, http.StatusText(p.Status))
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for _, f := range p.Errors {
		b.WriteString("; " + f.Location + ": " + f.Message)
	}
	return b.String()
}

// StatusOf is the HTTP status of a [Problem] in err's chain, 0 where there is none.
func StatusOf(err error) int {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Status
	}
	return 0
}

// request is one call of the API.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
	repeatable   bool
}

// answer says how a request went.
type answer struct {
	status    int
	header    http.Header
	uncertain bool // an earlier attempt may have been carried out although its answer was lost
}

// do sends the request, again and again where that is safe and the API is down, and decodes the answer into out (nil: ignore it).
func (c *Client) do(ctx context.Context, r request, out any) (answer, error) {
	var last answer
	waits := backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.7, MaxInterval: 2 * time.Second}
	waits.Reset()
	began := time.Now()
	for {
		got, err := c.once(ctx, r, out)
		got.uncertain = last.uncertain
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return got, fmt.Errorf("%s %s: %w", r.method, r.path, context.Cause(ctx))
		}
		wait := max(waits.NextBackOff(), retryAfter(err))
		if !r.repeatable || !down(err) || time.Since(began) > c.cfg.Patience-wait {
			return got, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
		if status := StatusOf(err); status == 0 || status >= 500 {
			got.uncertain = true
		}
		last = got
		if c.cfg.OnRetry != nil {
			c.cfg.OnRetry(err, wait)
		}
		if err := pause(ctx, wait); err != nil {
			return got, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
	}
}

// down tells an API that may be back soon from one that has answered: no answer at all, a full or failing server.
func down(err error) bool {
	if errors.Is(err, ErrAnswer) || errors.Is(err, ErrToken) {
		return false
	}
	switch status := StatusOf(err); status {
	case 0, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	default:
		return status >= 500
	}
}

func retryAfter(err error) time.Duration {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.RetryAfter
	}
	return 0
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Client) once(ctx context.Context, r request, out any) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	res, err := c.open(ctx, r)
	if err != nil {
		return answer{}, err
	}
	got := answer{status: res.StatusCode, header: res.Header}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	closeErr := res.Body.Close()
	if err := errors.Join(err, closeErr); err != nil {
		return got, fmt.Errorf("read answer: %w", err)
	}
	if res.StatusCode/100 != 2 {
		return got, problem(res, body)
	}
	if out == nil {
		return got, nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return got, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return got, nil
}

func (c *Client) open(ctx context.Context, r request) (*http.Response, error) {
	target := strings.TrimSuffix(c.base.String(), "/") + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	// The transport repeats by itself what it takes to be safe, and does not say so. Without GetBody it can't: repeating is up to do, which knows
	// then that an answer was lost.
	req.GetBody = nil
	maps.Copy(req.Header, r.header)
	req.Header.Set("Accept", "application/json, application/problem+json")
	if c.cfg.Token != nil {
		token, err := c.cfg.Token()
		if err != nil {
			return nil, err
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	return c.http.Do(req)
}

func problem(res *http.Response, body []byte) *Problem {
	p := &Problem{}
	if err := json.Unmarshal(body, p); err != nil {
		p.Detail = strings.TrimSpace(string(body[:min(len(body), 200)]))
	}
	p.Status = res.StatusCode
	p.RetryAfter = parseRetryAfter(res.Header.Get("Retry-After"))
	return p
}

// parseRetryAfter reads both forms of the header; what is unreadable, past or longer than a minute is cut to what is sensible.
func parseRetryAfter(value string) time.Duration {
	if value == "" {
		return 0
	}
	var d time.Duration
	if seconds, err := strconv.Atoi(value); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), time.Minute)
}

// segment is any text as one segment of a path. Dots alone would be taken for a step up.
func segment(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	_, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query, repeatable: true}, out)
	return err
}

// post sends v as JSON. With a key it is safe to repeat.
func (c *Client) post(ctx context.Context, path, key string, v, out any) (answer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return answer{}, fmt.Errorf("POST %s: body: %w", path, err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if strings.ContainsFunc(key, unicode.IsControl) {
		return answer{}, fmt.Errorf("POST %s: %w: %q", path, ErrKey, key)
	}
	if key != "" {
		header["Idempotency-Key"] = []string{key}
	}
	return c.do(ctx, request{method: http.MethodPost, path: path, header: header, body: body, repeatable: key != ""}, out)
}

func replayed(a answer) bool { return strings.EqualFold(a.header.Get("Idempotency-Replayed"), "true") }
