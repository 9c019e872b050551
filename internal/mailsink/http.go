package mailsink

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tidemark/tidemark/pkg/events/access"
)

type outboxInput struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"how many mails at most"`
	Offset int    `query:"offset" default:"0" minimum:"0" doc:"how many to pass over"`
	To     string `query:"to" maxLength:"320" doc:"only mails to this address"`
	Order  string `query:"order" default:"asc" enum:"asc,desc" doc:"asc: oldest first, so that an offset stays where it is; desc: newest first"`
}

type outbox struct {
	Total int    `json:"total" doc:"how many mails there are, each Message-ID once"`
	Items []Mail `json:"items"`
}

type outboxOutput struct{ Body outbox }

type faultsBody struct {
	TemporaryRate float64 `json:"temporary_rate" required:"false" minimum:"0" maximum:"1" doc:"share of mails that are refused with 451"`
	PermanentRate float64 `json:"permanent_rate" required:"false" minimum:"0" maximum:"1" doc:"share of mails that are refused with 550"`
	Delay         string  `json:"delay" required:"false" doc:"how long each answer takes, such as 100ms"`
	RefusedText   string  `json:"refused_text" required:"false" maxLength:"200" doc:"mails that hold this text are refused with 554, as a provider's content filter does"`
}

type faultsMessage struct{ Body faultsBody }

// Routes registers /v1/outbox and its faults.
func (s *Sink) Routes(api huma.API) {
	tags, security := []string{"mail sink"}, access.Any(access.Operator) // mails hold addresses
	huma.Register(api, huma.Operation{
		OperationID: "list-mails", Method: http.MethodGet, Path: "/v1/outbox", Tags: tags, Security: security, Summary: "The mails that were sent",
		Description: "What the mail sink of `tidemark up` took. A mail that was handed in more than once under one Message-ID is listed once, with its attempts.",
	}, s.listMails)
	huma.Register(api, huma.Operation{
		OperationID: "get-mail-ledger", Method: http.MethodGet, Path: "/v1/outbox/ledger", Tags: tags, Security: security, Summary: "The mail sink's books, one JSON object a line",
		Description: "Every mail that was handed in, oldest first: `kind` is accepted, repeated (accepted before under the same Message-ID) or refused. Without the texts.",
	}, s.getLedger)
	huma.Register(api, huma.Operation{
		OperationID: "get-mail-faults", Method: http.MethodGet, Path: "/v1/outbox/faults", Tags: tags, Security: security, Summary: "What the mail sink does wrong on purpose",
	}, func(context.Context, *struct{}) (*faultsMessage, error) { return s.faultsMessage(), nil })
	huma.Register(api, huma.Operation{
		OperationID: "set-mail-faults", Method: http.MethodPut, Path: "/v1/outbox/faults", Tags: tags, Security: security, Summary: "Let the mail sink refuse or wait",
		Description: "Fields that are left out are off.", Errors: []int{http.StatusUnprocessableEntity},
	}, s.putFaults)
}

// Handler serves the same by itself.
func (s *Sink) Handler() http.Handler {
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Mail sink", "1")
	config.DocsPath, config.CreateHooks = "", nil // no page with scripts from elsewhere, no $schema in bodies
	s.Routes(humago.New(mux, config))
	return mux
}

func (s *Sink) listMails(_ context.Context, in *outboxInput) (*outboxOutput, error) {
	total, items, err := s.ledger.page(in.To, in.Order == "desc", in.Offset, in.Limit)
	if err != nil {
		return nil, fmt.Errorf("list mails: %w", err)
	}
	return &outboxOutput{Body: outbox{Total: total, Items: items}}, nil
}

func (s *Sink) getLedger(context.Context, *struct{}) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/jsonl")
		if err := s.ledger.heads(ctx.BodyWriter()); err != nil {
			s.log.Warn("the mail ledger is not sent whole", "error", err)
		}
	}}, nil
}

func (s *Sink) faultsMessage() *faultsMessage {
	f := s.Faults()
	return &faultsMessage{Body: faultsBody{TemporaryRate: f.TemporaryRate, PermanentRate: f.PermanentRate, Delay: f.Delay.String(), RefusedText: f.RefusedText}}
}

func (s *Sink) putFaults(_ context.Context, in *faultsMessage) (*faultsMessage, error) {
	f := Faults{TemporaryRate: in.Body.TemporaryRate, PermanentRate: in.Body.PermanentRate, RefusedText: in.Body.RefusedText}
	if in.Body.Delay != "" {
		delay, err := time.ParseDuration(in.Body.Delay)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{
				Location: "body.delay", Message: "must be a duration such as 100ms", Value: in.Body.Delay,
			})
		}
		f.Delay = delay
	}
	if err := s.SetFaults(f); err != nil {
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	return s.faultsMessage(), nil
}
