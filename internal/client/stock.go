package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"
)

// Stock is what the warehouse holds of one SKU.
type Stock struct {
	SKU       string `json:"sku"`
	OnHand    int64  `json:"on_hand"`
	Reserved  int64  `json:"reserved"`
	Available int64  `json:"available"`
}

// Receipt is the answer to received units.
type Receipt struct {
	Stock
	ReceiptID string `json:"receipt_id"`
	Replayed  bool   `json:"-"` // the API had this key before, and has added nothing
}

// Stock reads one SKU.
func (c *Client) Stock(ctx context.Context, sku string) (Stock, error) {
	var s Stock
	err := c.get(ctx, "/v1/stock/"+segment(sku), nil, &s)
	return s, err
}

// Stocks lists all SKUs, page by page. After an error it ends.
func (c *Client) Stocks(ctx context.Context) iter.Seq2[Stock, error] {
	return pages[Stock](ctx, c, "/v1/stock", url.Values{"limit": {strconv.Itoa(pageSize(0))}})
}

// Receive adds units to the warehouse. With a key it is repeated while the API is down, and adds once.
func (c *Client) Receive(ctx context.Context, sku, key string, quantity int64) (Receipt, error) {
	var r Receipt
	body := struct {
		Quantity int64 `json:"quantity"`
	}{quantity}
	a, err := c.post(ctx, "/v1/stock/"+segment(sku)+"/receipts", key, body, &r)
	if err != nil {
		return r, err
	}
	r.Replayed = replayed(a)
	return r, nil
}
