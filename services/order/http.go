package order

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
)

const (
	maxBody      = 1 << 20
	maxWaitFor   = 30 * time.Second
	retrySeconds = "1"
	tag          = "orders"
)

// Routes registers the service's operations.
func (s *Service) Routes(api huma.API) {
	post := huma.Operation{
		OperationID: "place-order", Method: http.MethodPost, Path: "/v1/orders", Summary: "Place an order", Tags: []string{tag}, DefaultStatus: http.StatusAccepted,
		Description: "Answers 202 when the order is stored; what becomes of it is decided later. A request that is repeated with the same Idempotency-Key has no second effect " +
			"and is answered with Idempotency-Replayed: true; the same key with another body is answered 422. `Prefer: wait=5` waits up to that many seconds (30 at most) for the outcome.",
		Security:     access.Any(access.OrdersWrite),
		MaxBodyBytes: maxBody + 1, BodyReadTimeout: 10 * time.Second, SkipValidateBody: true, // huma refuses from the limit on, not above it
		Middlewares: huma.Middlewares{s.limit(api)},
		Errors:      []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	huma.Register(api, post, s.postOrder)
	describeBody(api)
	get := func(id, path, summary string, codes ...int) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{tag}, Errors: codes, Security: access.Any(access.OrdersRead, access.Operator)}
	}
	huma.Register(api, get("list-orders", "/v1/orders", "List orders in the order of placing", http.StatusServiceUnavailable), s.getOrders)
	huma.Register(api, get("get-order", "/v1/orders/{id}", "Show an order with its lines, as it is or as it was", http.StatusNotFound, http.StatusServiceUnavailable), s.getOrder)
	huma.Register(api, get("get-order-events", "/v1/orders/{id}/events", "Show what happened to an order", http.StatusNotFound, http.StatusServiceUnavailable), s.getEvents)
	huma.Register(api, get("get-orders-projection", "/v1/projections/orders", "Show the listing's position and digest"), s.getProjection)
	s.projectionRoutes(api)
	huma.Register(api, huma.Operation{
		OperationID: "cancel-order", Method: http.MethodPost, Path: "/v1/orders/{id}/cancel", Summary: "Cancel an order that has not ended", Tags: []string{tag},
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable}, Security: access.Any(access.OrdersWrite),
	}, s.postCancel)
}

// describeBody puts the body's schema into the OpenAPI document. The handler takes the raw body, so huma can't know it.
func describeBody(api huma.API) {
	doc := api.OpenAPI()
	content := doc.Paths["/v1/orders"].Post.RequestBody.Content["application/json"]
	content.Schema = doc.Components.Schemas.Schema(reflect.TypeFor[OrderRequest](), true, "OrderRequest")
}

type slotKey struct{}

// limit takes a slot for each request, or answers 429. The handler gives it back early when it only waits.
func (s *Service) limit(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		select {
		case s.slots <- struct{}{}:
		default:
			ctx.SetHeader("Retry-After", retrySeconds)
			_ = huma.WriteErr(api, ctx, http.StatusTooManyRequests, fmt.Sprintf("%d requests are being worked on: try again", s.cfg.MaxRequests)) // fails with the connection
			return
		}
		release := sync.OnceFunc(func() { <-s.slots })
		defer release()
		next(huma.WithValue(ctx, slotKey{}, release))
	}
}

type placeInput struct {
	Key     string `header:"Idempotency-Key" doc:"1 to 255 printable ASCII characters. Absent: every request is an order of its own."`
	Prefer  string `header:"Prefer" example:"wait=5"`
	RawBody []byte `contentType:"application/json"`
	Keys    []string
}

// Resolve tells an empty key from an absent one: taking it for absent would place the order twice.
func (in *placeInput) Resolve(ctx huma.Context) []error {
	ctx.EachHeader(func(name, value string) {
		if strings.EqualFold(name, "Idempotency-Key") {
			in.Keys = append(in.Keys, value)
		}
	})
	return nil
}

type placeOutput struct {
	Location string `header:"Location"`
	Replayed string `header:"Idempotency-Replayed"`
	Applied  string `header:"Preference-Applied"`
	Body     OrderBody
}

func (s *Service) postOrder(ctx context.Context, in *placeInput) (*placeOutput, error) {
	if err := s.caught(); err != nil {
		return nil, err
	}
	v, digest, err := in.read(time.Now())
	if err != nil {
		return nil, err
	}
	id := orderID(access.From(ctx).Subject, in.Key)
	o, replayed, err := s.place(ctx, id, v, digest)
	if err != nil {
		return nil, s.problem(err, "order "+id, "it may have been stored or not, which the same request with the same Idempotency-Key will tell")
	}
	out := &placeOutput{Location: "/v1/orders/" + id}
	if replayed {
		out.Replayed = "true"
	}
	if wait := preferredWait(in.Prefer); wait > 0 {
		if release, ok := ctx.Value(slotKey{}).(func()); ok {
			release() // who waits does no work
		}
		o = s.awaitEnd(ctx, o, wait)
		out.Applied = fmt.Sprintf("wait=%d", wait/time.Second)
	}
	out.Body = bodyOf(o)
	return out, nil
}

// read decodes and checks the request: 400 where it is no JSON, 422 with every fault where it is not valid.
func (in *placeInput) read(now time.Time) (validOrder, string, error) {
	r, f, err := decodeRequest(in.RawBody)
	if err != nil {
		return validOrder{}, "", huma.Error400BadRequest(err.Error())
	}
	if len(in.Keys) > 1 {
		f.header("Idempotency-Key", "must be given once")
	} else if len(in.Keys) == 1 && validKey(in.Keys[0]) != nil {
		f.header("Idempotency-Key", errKey.Error())
	}
	v := r.validate(now, &f)
	if len(f.list) > 0 {
		return validOrder{}, "", huma.Error422UnprocessableEntity("the order is not valid", f.list...)
	}
	digest, err := r.digest()
	return v, digest, err
}

// preferredWait reads "wait=N" of RFC 7240. What can't be read is no preference.
func preferredWait(prefer string) time.Duration {
	for part := range strings.FieldsFuncSeq(prefer, func(c rune) bool { return c == ',' || c == ';' }) {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil {
			return min(time.Duration(n)*time.Second, maxWaitFor)
		}
	}
	return 0
}

type orderPath struct {
	ID string `path:"id" maxLength:"128"`
}

type showInput struct {
	ID    string `path:"id" maxLength:"128"`
	AsOf  string `query:"as_of" maxLength:"64" doc:"The order as it was: at a version (1, 2, 3, …), or at a time in RFC 3339, by when its events were stored."`
	asked bool
}

// Resolve tells an empty as_of from an absent one: whoever sends it does not want the present.
func (in *showInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	in.asked = u.Query().Has("as_of")
	return nil
}

type orderOutput struct{ Body OrderBody }

func (s *Service) getOrder(ctx context.Context, in *showInput) (*orderOutput, error) {
	if in.asked {
		return s.getOrderAsOf(ctx, in)
	}
	o, err := s.current(ctx, in.ID)
	if err != nil {
		return nil, s.problem(err, "order "+in.ID, "try again")
	}
	return &orderOutput{Body: bodyWithLines(o)}, nil
}

func (s *Service) getOrderAsOf(ctx context.Context, in *showInput) (*orderOutput, error) {
	m, err := parseMoment(in.AsOf, time.Now())
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("as_of is not valid", &huma.ErrorDetail{Location: "query.as_of", Message: err.Error(), Value: in.AsOf})
	}
	o, last, err := s.asOf(ctx, in.ID, m)
	if err != nil {
		return nil, s.problem(err, "order "+in.ID, "try again")
	}
	out := &orderOutput{Body: bodyWithLines(o)}
	out.Body.AsOf = &AsOfBody{Stream: last.Stream, Sequence: last.Sequence, Type: last.Type, StoredAt: last.StoredAt.UTC()}
	return out, nil
}

type eventsOutput struct {
	Body struct {
		Items []EventBody `json:"items"`
	}
}

func (s *Service) getEvents(ctx context.Context, in *orderPath) (*eventsOutput, error) {
	recorded, err := s.pastOf(ctx, in.ID)
	if err != nil {
		return nil, s.problem(err, "order "+in.ID, "try again")
	}
	out := &eventsOutput{}
	for _, r := range recorded {
		out.Body.Items = append(out.Body.Items, eventBody(r))
	}
	return out, nil
}

type cancelInput struct {
	ID   string `path:"id" maxLength:"128"`
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"1024"`
	}
}

func (s *Service) postCancel(ctx context.Context, in *cancelInput) (*orderOutput, error) {
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	o, err := s.cancel(ctx, in.ID, reason)
	if err != nil {
		return nil, s.problem(err, "order "+in.ID, "try again")
	}
	return &orderOutput{Body: bodyWithLines(o)}, nil
}

type listInput struct {
	Customer string `query:"customer" maxLength:"128"`
	Status   string `query:"status" enum:"placed,reserved,confirmed,rejected,cancelled"`
	Cursor   string `query:"cursor" maxLength:"20" doc:"The next_cursor of the page before."`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type listOutput struct {
	Body struct {
		Items []OrderBody `json:"items"`
		Next  string      `json:"next_cursor,omitempty"`
	}
}

func (s *Service) getOrders(_ context.Context, in *listInput) (*listOutput, error) {
	if err := s.caught(); err != nil {
		return nil, err
	}
	q := query{customer: in.Customer, status: statusOf(in.Status), limit: in.Limit}
	if in.Cursor != "" {
		after, err := strconv.ParseUint(in.Cursor, 10, 64)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("the cursor is not valid", &huma.ErrorDetail{Location: "query.cursor", Message: "must be the next_cursor of a page", Value: in.Cursor})
		}
		q.after = after
	}
	orders, next := s.table().list(q)
	out := &listOutput{}
	out.Body.Items = make([]OrderBody, len(orders))
	for i, o := range orders {
		out.Body.Items[i] = bodyOf(o)
	}
	if next > 0 {
		out.Body.Next = strconv.FormatUint(next, 10)
	}
	return out, nil
}

// statusOf reads a status. What is no status is None; huma lets none through.
func statusOf(name string) Status {
	for s, n := range statusNames {
		if n == name {
			return Status(s) //nolint:gosec // six of them
		}
	}
	return None
}

type projectionOutput struct {
	Body struct {
		Name     string            `json:"name"`
		Position map[string]uint64 `json:"position"`
		Count    int               `json:"count"`
		Digest   string            `json:"digest" doc:"SHA-256 of a line an order, sorted by id: id|status|version|total_minor|customer_id"`
	}
}

func (s *Service) getProjection(context.Context, *struct{}) (*projectionOutput, error) {
	p := s.project()
	out := &projectionOutput{}
	out.Body.Name, out.Body.Count, out.Body.Digest = "orders", p.count, p.digest
	out.Body.Position = p.positions.byStream()
	return out, nil
}

// caught refuses what needs the whole read model until it is there.
func (s *Service) caught() error {
	select {
	case <-s.caughtUp:
		return nil
	default:
		return later(huma.Error503ServiceUnavailable("the service is starting: it has not read the log yet"))
	}
}

// problem makes the HTTP answer of an error. What is not the caller's doing is logged and not told, but for a hint.
func (s *Service) problem(err error, about, hint string) error {
	switch {
	case errors.Is(err, ErrNotPlaced):
		return huma.Error404NotFound(about + ": " + ErrNotPlaced.Error())
	case errors.Is(err, ErrNotThen):
		return huma.Error404NotFound(about + ": " + err.Error())
	case errors.Is(err, ErrEnded):
		return huma.Error409Conflict(about + ": " + err.Error())
	case errors.Is(err, ErrOtherRequest):
		return huma.Error422UnprocessableEntity(ErrOtherRequest.Error()+"; nothing was changed", &huma.ErrorDetail{Location: "header.Idempotency-Key", Message: ErrOtherRequest.Error()})
	case errors.Is(err, ErrTooManyOpen):
		return later(huma.Error429TooManyRequests(fmt.Sprintf("%d orders are open: try again", s.cfg.MaxOpen)))
	}
	if !errors.Is(err, context.Canceled) { // then the caller has gone
		s.logger.Error("request failed", "about", about, "error", err)
	}
	if errors.Is(err, events.ErrUndecodable) || errors.Is(err, events.ErrUnknownType) {
		return huma.Error500InternalServerError(about + ": an event of it can't be read")
	}
	return later(huma.Error503ServiceUnavailable(about + ": the broker did not answer in time; " + hint))
}

func later(err error) error {
	return huma.ErrorWithHeaders(err, http.Header{"Retry-After": {retrySeconds}})
}
