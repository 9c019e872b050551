package system

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/internal/gateway"
	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/load"
	"github.com/tidemark/tidemark/internal/mailsink"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events/access"
)

const (
	usualGateway = "127.0.0.1:8090"
	usualMail    = "127.0.0.1:1025"
)

// outside are the systems that a shop has but does not own: who takes the money, and who carries the mail.
type outside struct {
	admin   *httpapi.Admin // nil where there is none
	gateway *gatewayPart
	sink    *mailsink.Sink
}

func (o outside) parts() []run.Part {
	parts := []run.Part{{Name: "gateway", Component: o.gateway}, {Name: "mail sink", Component: o.sink}}
	if o.admin != nil {
		parts = append(parts, run.Part{Name: "admin", Component: o.admin})
	}
	return parts
}

// gatewayPart serves the gateway on an address of its own, as an outside system has, and closes its ledger at the end.
type gatewayPart struct {
	*httpapi.Server
	gateway *gateway.Gateway
}

func (g *gatewayPart) Run(ctx context.Context) error {
	err := g.Server.Run(ctx)
	if closeErr := g.gateway.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (s *System) makeOutside(ctx context.Context) (err error) {
	if s.cfg.AdminAddr != "" {
		if s.outside.admin, err = httpapi.ListenAdmin(ctx, s.cfg.AdminAddr); err != nil {
			return err
		}
	}
	tel, err := s.cfg.Provider.Service(ctx, "gateway")
	if err != nil {
		return err
	}
	g, err := gateway.New(gateway.Config{Dir: s.dir("gateway"), Logger: tel.Logger})
	if err != nil {
		return fmt.Errorf("payment gateway: %w", err)
	}
	part := &gatewayPart{gateway: g}
	part.Server, err = httpapi.Listen(ctx, httpapi.Config{
		Addr: preferred(ctx, s.cfg.GatewayAddr, usualGateway), Version: s.cfg.Version, Telemetry: tel, DrainTime: time.Second,
		ReadyParts: func() []run.Part { return nil }, Tokens: s.tokens,
	})
	if errors.Is(err, httpapi.ErrNoKeys) {
		return fmt.Errorf("%w: --gateway: %w", program.ErrUsage, err)
	}
	if err != nil {
		return fmt.Errorf("payment gateway: %w", err)
	}
	for _, pattern := range gateway.Payments() { // its customers have no tokens of ours: it stands for a system that is not ours
		part.HandlePublic(pattern, g.Handler())
	}
	for _, pattern := range gateway.Books() {
		part.Handle(pattern, access.Any(access.Operator), g.Handler())
	}
	part.Open()
	s.outside.gateway = part

	s.outside.sink, err = mailsink.New(mailsink.Config{Addr: preferred(ctx, s.cfg.MailAddr, usualMail), Dir: s.dir("mails"), Logger: s.log})
	if err != nil {
		return fmt.Errorf("mail sink: %w", err)
	}
	// The provider's content filter takes offence at what `load --poison` orders, until somebody switches it off.
	if err := s.outside.sink.SetFaults(mailsink.Faults{RefusedText: load.PoisonSKU}); err != nil {
		return fmt.Errorf("mail sink: %w", err)
	}
	s.outside.sink.Routes(s.server.API())
	s.server.Handle("GET /v1/ledger", access.Any(access.Operator), s.outside.gateway.gateway.Handler()) // check reads it here, with the token that is for this address
	return nil
}
