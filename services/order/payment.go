package order

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

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// payments asks the payment gateway, the one outside system that is asked synchronously. The order's id is the idempotency key of all that is asked for an
// order, so asking again is always safe.
type payments struct {
	client  *http.Client
	base    string
	timeout time.Duration
}

// The states of a payment, as the gateway says them.
const (
	paymentCaptured = "captured"
	paymentDeclined = "declined"
	paymentVoided   = "voided"
)

type payment struct {
	ID     string `json:"payment_id"`
	Status string `json:"status"`
}

type charge struct {
	OrderID  string       `json:"order_id"`
	Amount   events.Minor `json:"amount_minor"`
	Currency string       `json:"currency"`
}

var errGateway = errors.New("payment gateway")

// charge captures the order's total. "declined" and "voided" are answers, not errors. Errors that no retry changes are permanent.
func (p *payments) charge(ctx context.Context, o Order) (payment, error) {
	body, err := json.Marshal(charge{OrderID: o.ID, Amount: o.Total, Currency: o.Currency})
	if err != nil {
		return payment{}, fmt.Errorf("%w: charge: %w", errGateway, err)
	}
	answer, err := p.post(ctx, p.base+"/v1/payments", o.ID, body)
	if err != nil {
		return payment{}, fmt.Errorf("charge order %s: %w", o.ID, err)
	}
	switch answer.Status {
	case paymentCaptured, paymentDeclined, paymentVoided:
		return answer, nil
	}
	return payment{}, fail.Permanent(fmt.Errorf("charge order %s: %w: answered status %q", o.ID, errGateway, answer.Status))
}

// void undoes what was captured for the order, and spends the key where nothing was.
func (p *payments) void(ctx context.Context, orderID string) error {
	answer, err := p.post(ctx, p.base+"/v1/payments/"+url.PathEscape(orderID)+"/void", orderID, nil)
	if err != nil {
		return fmt.Errorf("void payment of order %s: %w", orderID, err)
	}
	if answer.Status != paymentVoided {
		return fail.Permanent(fmt.Errorf("void payment of order %s: %w: answered status %q", orderID, errGateway, answer.Status))
	}
	return nil
}

func (p *payments) post(ctx context.Context, address, key string, body []byte) (payment, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return payment{}, fail.Permanent(fmt.Errorf("%w: %w", errGateway, err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := p.client.Do(req)
	if err != nil {
		return payment{}, fmt.Errorf("%w: %w", errGateway, err)
	}
	defer func() { _ = resp.Body.Close() }() // read only
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return payment{}, fmt.Errorf("%w: read answer: %w", errGateway, err)
	}
	if resp.StatusCode != http.StatusOK {
		return payment{}, refusal(resp, raw)
	}
	var answer payment
	if err := json.Unmarshal(raw, &answer); err != nil {
		return payment{}, fmt.Errorf("%w: answer: %w", errGateway, err)
	}
	return answer, nil
}

const (
	maxAnswer = 64 << 10
	maxWait   = 10 * time.Second // a handler must not sit on a partition's lane for longer
)

// refusal classifies an answer that is not 200: 5xx pass, as do 408 and 429, which may say when; another 4xx says that we are wrong, and will be again.
func refusal(resp *http.Response, raw []byte) error {
	err := fmt.Errorf("%w: status %d: %s", errGateway, resp.StatusCode, truncate(strings.TrimSpace(string(raw)), 200))
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		if seconds, e := strconv.Atoi(resp.Header.Get("Retry-After")); e == nil && seconds > 0 {
			return fail.RetryAfter(min(time.Duration(seconds)*time.Second, maxWait), err)
		}
		return err
	case resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode >= 500:
		return err
	}
	return fail.Permanent(err)
}
