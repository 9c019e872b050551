package inventory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
)

const maxSKULength = 64 // characters

// Stock is what the warehouse holds of one SKU.
type Stock struct {
	SKU       string `json:"sku" doc:"The article" example:"85123A"`
	OnHand    int64  `json:"on_hand" doc:"Units in the warehouse"`
	Reserved  int64  `json:"reserved" doc:"Units of them that open orders hold"`
	Available int64  `json:"available" doc:"Units that can still be ordered: on_hand - reserved"`
}

func stockOf(sku string, it item) Stock {
	return Stock{SKU: sku, OnHand: it.onHand, Reserved: it.reserved, Available: it.available()}
}

// StockList is one page of the listing.
type StockList struct {
	Items      []Stock `json:"items" doc:"In bytewise order of the SKU"`
	NextCursor string  `json:"next_cursor,omitempty" doc:"Where the next page starts; absent on the last one"`
}

// StockReceiptRequest asks for units to be added.
type StockReceiptRequest struct {
	Quantity int64 `json:"quantity" minimum:"1" maximum:"1000000000" doc:"Units that came in"`
}

// StockReceipt is the stock after a receipt.
type StockReceipt struct {
	Stock
	ReceiptID string `json:"receipt_id" doc:"The same for the same SKU and Idempotency-Key"`
}

// StockProjection sums up the whole state, to compare instances and rebuilds.
type StockProjection struct {
	Name     string            `json:"name" example:"stock"`
	Position map[string]uint64 `json:"position" doc:"The sequence of each stream that the state is folded to"`
	Count    int               `json:"count" doc:"SKUs"`
	Digest   string            `json:"digest" doc:"Hexadecimal SHA-256 of one line a SKU, sku|on_hand|reserved, sorted by SKU"`
}

type skuInput struct {
	SKU string `path:"sku" doc:"1 to 64 printable characters, path-escaped"`
}

type stockOutput struct{ Body Stock }

type listInput struct {
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type listOutput struct{ Body StockList }

type receiptInput struct {
	SKU  string `path:"sku" doc:"1 to 64 printable characters, path-escaped"`
	Key  string `header:"Idempotency-Key" maxLength:"255" doc:"A repeated key adds nothing"`
	Body StockReceiptRequest
}

type receiptOutput struct {
	Status   int
	Replayed string `header:"Idempotency-Replayed" doc:"true where the receipt was known"`
	Body     StockReceipt
}

type projectionOutput struct{ Body StockProjection }

// Routes registers the service's HTTP operations.
func (s *Service) Routes(api huma.API) {
	tags := []string{"Inventory"}
	reads, writes := access.Any(access.OrdersRead, access.StockWrite, access.Operator), access.Any(access.StockWrite)
	huma.Register(api, huma.Operation{
		OperationID: "get-stock", Method: http.MethodGet, Path: "/v1/stock/{sku}", Tags: tags,
		Summary: "What the warehouse holds of one SKU", Errors: []int{404, 422, 503}, Security: reads,
	}, s.getStock)
	huma.Register(api, huma.Operation{
		OperationID: "list-stock", Method: http.MethodGet, Path: "/v1/stock", Tags: tags,
		Summary: "What the warehouse holds, SKU by SKU", Errors: []int{422, 503}, Security: reads,
	}, s.listStock)
	huma.Register(api, huma.Operation{
		OperationID: "receive-stock", Method: http.MethodPost, Path: "/v1/stock/{sku}/receipts", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Add units that came in",
		Description: "201 when they were added; 200 and Idempotency-Replayed when this Idempotency-Key of the SKU was used before with the same quantity, 422 with another.",
		Errors:      []int{422, 503}, Security: writes,
	}, s.receiveStock)
	huma.Register(api, huma.Operation{
		OperationID: "get-stock-projection", Method: http.MethodGet, Path: "/v1/projections/stock", Tags: tags,
		Summary: "The state in one digest, and the position it is of", Errors: []int{503}, Security: reads,
	}, s.getProjection)
	s.slashRoutes(api, reads, writes)
}

// restInput is a path behind /v1/stock/ as net/http gives it to a "{rest...}": unescaped.
type restInput struct {
	Rest string `path:"rest"`
}

type restReceiptInput struct {
	Rest string `path:"rest"`
	Key  string `header:"Idempotency-Key" maxLength:"255"`
	Body StockReceiptRequest
}

// slashRoutes serve the one SKU that "{sku}" does not match: net/http takes a segment %2F, which is "/" alone, for the end of a path.
func (s *Service) slashRoutes(api huma.API, reads, writes access.Requirement) {
	const path = "/v1/stock/{rest...}"
	huma.Register(api, huma.Operation{OperationID: "get-stock-slash", Method: http.MethodGet, Path: path, Hidden: true, Security: reads},
		func(ctx context.Context, in *restInput) (*stockOutput, error) {
			if in.Rest != "/" {
				return nil, huma.Error404NotFound("no such page; a SKU must be path-escaped")
			}
			return s.getStock(ctx, &skuInput{SKU: in.Rest})
		})
	huma.Register(api, huma.Operation{OperationID: "receive-stock-slash", Method: http.MethodPost, Path: path, Hidden: true, Security: writes},
		func(ctx context.Context, in *restReceiptInput) (*receiptOutput, error) {
			if in.Rest != "//receipts" {
				return nil, huma.Error404NotFound("no such page; a SKU must be path-escaped")
			}
			return s.receiveStock(ctx, &receiptInput{SKU: "/", Key: in.Key, Body: in.Body})
		})
}

func (s *Service) getStock(_ context.Context, in *skuInput) (*stockOutput, error) {
	if err := checkSKU(in.SKU); err != nil {
		return nil, err
	}
	if err := s.serving(); err != nil {
		return nil, err
	}
	it, ok := s.live.stock(in.SKU)
	if !ok {
		return nil, huma.Error404NotFound(fmt.Sprintf("SKU %q was never received", in.SKU))
	}
	return &stockOutput{Body: stockOf(in.SKU, it)}, nil
}

func (s *Service) listStock(_ context.Context, in *listInput) (*listOutput, error) {
	if err := s.serving(); err != nil {
		return nil, err
	}
	after := ""
	if in.Cursor != "" {
		var err error
		if after, err = events.Untoken(in.Cursor); err != nil {
			return nil, huma.Error422UnprocessableEntity("the cursor is none of ours", &huma.ErrorDetail{Location: "query.cursor", Message: err.Error(), Value: in.Cursor})
		}
	}
	stocks, _, more := s.live.list(after, in.Limit)
	out := &listOutput{Body: StockList{Items: stocks}}
	if more {
		out.Body.NextCursor = events.Token(stocks[len(stocks)-1].SKU)
	}
	return out, nil
}

func (s *Service) receiveStock(ctx context.Context, in *receiptInput) (*receiptOutput, error) {
	if err := checkSKU(in.SKU); err != nil {
		return nil, err
	}
	id := events.NewID()
	if in.Key != "" {
		id = receiptID(access.From(ctx).Subject, in.SKU, in.Key)
	}
	stock, repeated, err := s.decider.receipt(ctx, receipt{ID: id, SKU: in.SKU, Quantity: in.Body.Quantity})
	switch {
	case errors.Is(err, ErrOtherQuantity):
		return nil, huma.Error422UnprocessableEntity(err.Error(), &huma.ErrorDetail{Location: "header.Idempotency-Key", Message: err.Error(), Value: in.Key})
	case errors.Is(err, ErrTooManyUnits):
		return nil, huma.Error422UnprocessableEntity(err.Error(), &huma.ErrorDetail{Location: "body.quantity", Message: err.Error(), Value: in.Body.Quantity})
	case err != nil:
		s.telemetry.Logger.ErrorContext(ctx, "receive stock", "error", err)
		return nil, huma.Error503ServiceUnavailable("the receipt may or may not have been stored; ask again with the same Idempotency-Key")
	}
	out := &receiptOutput{Status: http.StatusCreated, Body: StockReceipt{Stock: stock, ReceiptID: id}}
	if repeated {
		out.Status, out.Replayed = http.StatusOK, "true"
	}
	return out, nil
}

// receiptID is the id of the receipt that a request makes: a key is its caller's, so nobody's receipt is taken for another's repetition. What was stored before there were
// callers has the id that it has.
func receiptID(caller, sku, key string) string {
	if caller == access.Local {
		return events.DeriveID("receipt", sku, key)
	}
	return events.DeriveID("receipt", caller, sku, key)
}

func (s *Service) getProjection(context.Context, *struct{}) (*projectionOutput, error) {
	if err := s.serving(); err != nil {
		return nil, err
	}
	stocks, position, _ := s.live.list("", math.MaxInt32)
	h := sha256.New()
	for _, st := range stocks {
		fmt.Fprintf(h, "%s|%d|%d\n", st.SKU, st.OnHand, st.Reserved)
	}
	return &projectionOutput{Body: StockProjection{
		Name: "stock", Position: map[string]uint64{events.StreamStock: position}, Count: len(stocks), Digest: hex.EncodeToString(h.Sum(nil)),
	}}, nil
}

// serving refuses reads until the state has caught up: half a state is a wrong answer.
func (s *Service) serving() error {
	select {
	case <-s.caughtUp:
		return nil
	default:
		return huma.Error503ServiceUnavailable("inventory is still reading its log")
	}
}

// checkSKU is the rule that orders have too: 1 to 64 printable characters, spaces of every kind among them.
func checkSKU(sku string) error {
	rule := ""
	switch n := utf8.RuneCountInString(sku); {
	case !utf8.ValidString(sku):
		rule = "must be UTF-8"
	case n < 1 || n > maxSKULength:
		rule = fmt.Sprintf("must have 1 to %d characters, has %d", maxSKULength, n)
	}
	for _, r := range sku {
		if rule == "" && !unicode.IsGraphic(r) {
			rule = fmt.Sprintf("must have printable characters only, has %U", r)
		}
	}
	if rule == "" {
		return nil
	}
	return huma.Error422UnprocessableEntity("sku "+rule, &huma.ErrorDetail{Location: "path.sku", Message: rule, Value: sku})
}
