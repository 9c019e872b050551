package analytics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// clickIntake takes the clickstream from web pages, apps and devices: CloudEvents over HTTP, one or many. Nothing of a request is stored unless all of it is
// valid. The same click sent again, which is what a client does that got no answer, is stored once: source and id make it the same.
type clickIntake struct {
	publisher *bus.Publisher
	registry  *events.Registry
	subjects  events.Subjects
	now       func() time.Time
}

func newClickIntake(publisher *bus.Publisher, registry *events.Registry, subjects events.Subjects) *clickIntake {
	return &clickIntake{publisher: publisher, registry: registry, subjects: subjects, now: time.Now}
}

// Limits on what comes from outside. Lengths are in code points.
const (
	maxClickBody      = 1 << 20
	maxClicks         = 1000
	maxSource         = 256
	maxAttribute      = 256
	maxSchemaURI      = 1024
	maxTraceState     = 512
	maxExtensions     = 16
	maxClickProblems  = 20 // named in one answer
	clickStoreTimeout = 10 * time.Second
)

type clicksInput struct {
	header  http.Header
	RawBody []byte
}

// Resolve keeps the headers: in binary mode the attributes are there.
func (in *clicksInput) Resolve(ctx huma.Context) []error {
	in.header = make(http.Header)
	ctx.EachHeader(func(name, value string) { in.header.Add(name, value) })
	return nil
}

type clicksOutput struct {
	Body clicksAnswer
}

type clicksAnswer struct {
	Accepted   int `json:"accepted" doc:"Clicks that are stored now."`
	Duplicates int `json:"duplicates" doc:"Clicks that were stored before: the same source and id, within two minutes."`
}

func (c *clickIntake) routes(api huma.API) {
	one := &huma.Schema{Type: huma.TypeObject, Description: "A CloudEvent 1.0 of type " + events.TypePageClicked + "."}
	huma.Register(api, huma.Operation{
		OperationID: "take-clicks", Method: http.MethodPost, Path: "/v1/clicks", Tags: []string{"analytics"}, Security: access.Any(access.ClicksWrite, access.OrdersWrite),
		Summary: "Take clicks from web, mobile and devices",
		Description: "CloudEvents 1.0 of type " + events.TypePageClicked + " in binary mode (attributes in ce- headers), structured mode, or as a batch of up to " +
			strconv.Itoa(maxClicks) + ". When one of them is not valid, none is stored. A click without a time gets the time of its arrival.",
		DefaultStatus: http.StatusAccepted, MaxBodyBytes: maxClickBody,
		SkipValidateBody: true, // the body is judged here: what is wrong with which click, not with the array
		Errors:           []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json":           {Schema: &huma.Schema{Type: huma.TypeObject, Description: "Binary mode: the data alone, {user, page, platform?}."}},
			events.ContentTypeStructured: {Schema: one},
			events.ContentTypeBatch:      {Schema: &huma.Schema{Type: huma.TypeArray, Items: one}},
		}},
	}, c.take)
}

func (c *clickIntake) take(ctx context.Context, in *clicksInput) (*clicksOutput, error) {
	clicks, err := c.read(in.header, in.RawBody)
	if err != nil {
		return nil, err
	}
	out := &clicksOutput{}
	for i := 0; i < len(clicks); {
		// Clicks of one trace go together; in practice that is the whole request.
		n := i + 1
		for n < len(clicks) && clicks[n].TraceParent == clicks[i].TraceParent {
			n++
		}
		if err := c.store(ctx, clicks[i:n], out); err != nil {
			return nil, err
		}
		i = n
	}
	return out, nil
}

// store publishes clicks of one trace.
func (c *clickIntake) store(ctx context.Context, clicks []events.Event, out *clicksOutput) error {
	ctx, cancel := context.WithTimeout(withTrace(ctx, &clicks[0]), clickStoreTimeout)
	defer cancel()
	messages := make([]bus.Message, 0, len(clicks))
	// What is in the request twice is sent once: a cluster that still copies the first refuses the second (10158) where it would recognise it a moment later.
	seen := make(map[string]bool, len(clicks))
	for i := range clicks {
		id := bus.MessageID(&clicks[i])
		if seen[id] {
			out.Body.Duplicates++
			continue
		}
		seen[id] = true
		messages = append(messages, bus.Message{Subject: c.subjects.Click(clicks[i].PartitionKey), Event: clicks[i]})
	}
	acks, err := c.publisher.PublishBatch(ctx, messages)
	if err != nil {
		return unavailable(fmt.Errorf("not all clicks are stored; send all of them again, those that are stored are recognised: %w", err))
	}
	for _, ack := range acks {
		if ack.Duplicate {
			out.Body.Duplicates++
		} else {
			out.Body.Accepted++
		}
	}
	return nil
}

// withTrace continues the click's own trace, which its producer began, where the request that brought it is of another.
func withTrace(ctx context.Context, click *events.Event) context.Context {
	carrier := propagation.MapCarrier{"traceparent": click.TraceParent, "tracestate": click.TraceState}
	own := (propagation.TraceContext{}).Extract(context.Background(), carrier)
	span := trace.SpanContextFromContext(own)
	if !span.IsValid() || span.TraceID() == trace.SpanContextFromContext(ctx).TraceID() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, span)
}

// read makes valid clicks of a request, or says what is wrong with it.
func (c *clickIntake) read(header http.Header, body []byte) ([]events.Event, error) {
	clicks, errs, where, err := decodeClicks(header, body)
	if err != nil {
		return nil, huma.Error400BadRequest("the body is not what its content type says", err)
	}
	if len(clicks) > maxClicks {
		return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("a batch has at most %d clicks, this one has %d", maxClicks, len(clicks)))
	}
	var details []error
	bad := 0
	for i := range clicks {
		problems := errs[i]
		if problems == nil {
			problems = c.accept(&clicks[i])
		}
		if problems == nil {
			continue
		}
		if bad++; bad <= maxClickProblems {
			details = append(details, &huma.ErrorDetail{Location: where(i), Message: oneLine(problems), Value: clipped(clicks[i].ID)})
		}
	}
	if bad > 0 {
		return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("%d of %d clicks not valid; none is stored", bad, len(clicks)), details...)
	}
	return clicks, nil
}

// decodeClicks reads the three modes of the HTTP binding. errs has an entry for each click; err is for the body itself.
func decodeClicks(header http.Header, body []byte) (clicks []events.Event, errs []error, where func(int) string, err error) {
	contentType := strings.ToLower(header.Get("Content-Type"))
	switch {
	case strings.HasPrefix(contentType, events.ContentTypeBatch):
		clicks, errs, err = events.DecodeBatch(body)
		return clicks, errs, func(i int) string { return "body[" + strconv.Itoa(i) + "]" }, err
	case strings.HasPrefix(contentType, events.ContentTypeStructured):
		where = func(int) string { return "body" }
	default:
		where = func(int) string { return "request" }
	}
	attributes := make(events.Header, len(header))
	for name, values := range header {
		for _, v := range values {
			if strings.HasPrefix(strings.ToLower(name), "ce-") {
				v = unquote(v)
			}
			attributes[name] = append(attributes[name], v)
		}
	}
	click, decodeErr := events.Decode(attributes, body)
	if decodeErr == nil && click.TraceParent == "" {
		click.TraceParent, click.TraceState = header.Get("Traceparent"), header.Get("Tracestate")
	}
	return []events.Event{click}, []error{decodeErr}, where, nil
}

// unquote reads a header value that stands in double quotes (RFC 9110 §5.6.4), as the HTTP binding asks for before percent-decoding.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for s = s[1 : len(s)-1]; s != ""; s = s[1:] {
		if s[0] == '\\' && len(s) > 1 {
			s = s[1:]
		}
		b.WriteByte(s[0])
	}
	return b.String()
}

// accept checks a click and gives it what its producer may leave out.
func (c *clickIntake) accept(click *events.Event) error {
	if click.Type != events.TypePageClicked {
		return fmt.Errorf("type: must be %s", events.TypePageClicked)
	}
	if err := errors.Join(checkAttributes(click)...); err != nil {
		return err
	}
	if err := c.registry.Validate(click); err != nil {
		return err
	}
	payload, err := events.Payload[events.PageClicked](click)
	if err != nil {
		return err
	}
	if click.Time.IsZero() {
		click.Time = c.now().UTC().Truncate(time.Millisecond)
	}
	click.PartitionKey = payload.User
	click.Version = 0 // the place of a click is given by the log
	return checkEnvelope(click)
}

// checkAttributes bounds every attribute, and keeps out control characters, which CloudEvents forbids.
func checkAttributes(click *events.Event) []error {
	var errs []error
	text := func(name, value string, most int) {
		if n := utf8.RuneCountInString(value); n > most {
			errs = append(errs, fmt.Errorf("%s: must have at most %d characters, has %d", name, most, n))
		}
		if strings.ContainsFunc(value, unicode.IsControl) {
			errs = append(errs, fmt.Errorf("%s: must not have control characters", name))
		}
	}
	text("id", click.ID, maxID)
	text("source", click.Source, maxSource)
	text("subject", click.Subject, maxAttribute)
	text("dataschema", click.DataSchema, maxSchemaURI)
	text("datacontenttype", click.DataContentType, maxAttribute)
	text("correlationid", click.CorrelationID, maxAttribute)
	text("causationid", click.CausationID, maxAttribute)
	text("partitionkey", click.PartitionKey, maxAttribute)
	text("traceparent", click.TraceParent, maxAttribute)
	text("tracestate", click.TraceState, maxTraceState)
	if n := len(click.Extensions); n > maxExtensions {
		errs = append(errs, fmt.Errorf("extensions: must be at most %d, are %d", maxExtensions, n))
		return errs
	}
	for name, value := range click.Extensions {
		text("extension "+name, value, maxAttribute)
	}
	return errs
}

// oneLine puts joined errors into one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// clipped is an id short enough to be sent back.
func clipped(id string) string {
	if r := []rune(id); len(r) > maxID {
		return string(r[:maxID]) + "…"
	}
	return id
}
