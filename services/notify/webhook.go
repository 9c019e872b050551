package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/propagation"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// webhook is the channel webhook: a POST to the operator's URL in the shape of Standard Webhooks (https://www.standardwebhooks.com).
type webhook struct {
	url        string
	signer     *standardwebhooks.Webhook
	client     *http.Client
	timeout    time.Duration
	propagator propagation.TextMapPropagator
	now        func() time.Time
}

// webhookBody is what is posted. Data is the event's payload as it is stored.
type webhookBody struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"` // event time
	Data      json.RawMessage `json:"data"`
}

const (
	maxAnswer     = 64 << 10        // bytes of an answer that are read, to keep its connection
	maxRetryAfter = 1 * time.Minute // a wait keeps the order's place in its partition
)

func newWebhook(cfg Config, propagator propagation.TextMapPropagator) (*webhook, error) {
	signer, err := standardwebhooks.NewWebhook(cfg.WebhookSecret)
	if err != nil {
		return nil, errors.New("webhook: the secret is not whsec_ and base64")
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: cfg.SendTimeout, MaxResponseHeaderBytes: maxAnswer,
	}
	return &webhook{
		url: cfg.WebhookURL, signer: signer, timeout: cfg.SendTimeout, propagator: propagator, now: time.Now,
		client: &http.Client{
			Transport: transport,
			// A redirect could lead the signed event to where the operator did not mean it to go.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func (*webhook) name() string { return channelWebhook }

// address is none: the operator's URL is for all.
func (*webhook) address(context.Context, news) (string, error) { return "", nil }

// webhookID is always the same for the same event. It holds no full stop, which separates what is signed.
func webhookID(n news) string { return "msg_" + events.DeriveID(n.eventID, channelWebhook) }

// send posts the news. 2xx is success. 4xx is permanent, except where the receiver asks for another time: 408, 409, 425, 429.
func (w *webhook) send(ctx context.Context, n news) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	id := webhookID(n)
	request, err := w.request(ctx, id, n)
	if err != nil {
		return outcome{}, fail.Permanent(fmt.Errorf("webhook: %w", err))
	}
	response, err := w.client.Do(request)
	if err != nil {
		return outcome{}, fmt.Errorf("webhook: %w", withoutURL(err))
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer) // read, it can be used again; what it says is of no use here
	if err := w.judge(response); err != nil {
		return outcome{}, err
	}
	return outcome{messageID: id}, nil
}

func (w *webhook) request(ctx context.Context, id string, n news) (*http.Request, error) {
	body, err := json.Marshal(webhookBody{Type: n.eventType, Timestamp: n.at, Data: n.data})
	if err != nil {
		return nil, fmt.Errorf("write the body: %w", err)
	}
	at := w.now()
	signature, err := w.signer.Sign(id, at, body)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	h := request.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "tidemark-notify")
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(standardwebhooks.HeaderWebhookSignature, signature)
	w.propagator.Inject(ctx, propagation.HeaderCarrier(h))
	return request, nil
}

// judge says what the answer means.
func (w *webhook) judge(r *http.Response) error {
	if r.StatusCode >= 200 && r.StatusCode < 300 {
		return nil
	}
	err := fmt.Errorf("webhook: the receiver answered %d", r.StatusCode)
	switch r.StatusCode {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		if r.StatusCode >= 400 && r.StatusCode < 500 {
			return fail.Permanent(err)
		}
	}
	if wait, ok := retryAfter(r.Header.Get("Retry-After"), w.now()); ok {
		return fail.RetryAfter(wait, err)
	}
	return err
}

// retryAfter reads the header Retry-After (RFC 9110 §10.2.3): seconds, or a date. Waits are at most a minute.
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter), true //nolint:gosec // 32 bits
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter), true
	}
	return 0, false
}

// withoutURL is the error without the URL that package net/http writes into it: its path or query may be a secret.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func (w *webhook) close() { w.client.CloseIdleConnections() }
