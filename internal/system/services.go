package system

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/services/analytics"
	"github.com/tidemark/tidemark/services/inventory"
	"github.com/tidemark/tidemark/services/notify"
	"github.com/tidemark/tidemark/services/order"
)

// makeOperator serves what operators need of the dead letters, and counts them. It runs here also where the services run elsewhere: it works on the streams alone.
func (s *System) makeOperator(ctx context.Context) (run.Part, error) {
	tel, err := s.cfg.Provider.Service(ctx, "tidemark")
	if err != nil {
		return run.Part{}, err
	}
	nc, err := s.connect("operator", events.UserOperator)
	if err != nil {
		return run.Part{}, err
	}
	return program.Operator(program.Env{NATS: nc, Topology: s.topology, Registry: s.registry, Telemetry: tel}, s.server.API())
}

// owner finds the service that a request is for, by its path: its span must say order, not that all services share an address here. What is passed on to a service
// elsewhere is ours: that service makes a span of its own.
func (s *System) owner(shared bus.Telemetry) func(*http.Request) bus.Telemetry {
	type place struct {
		prefix string
		tel    bus.Telemetry
	}
	var places []place
	for _, name := range Services() {
		if !s.has(name) {
			continue
		}
		tel, err := s.cfg.Provider.Service(context.Background(), name)
		if err != nil {
			continue // the service itself will say so
		}
		for _, path := range paths(name) {
			places = append(places, place{path, tel})
		}
	}
	return func(r *http.Request) bus.Telemetry {
		best := place{tel: shared}
		for _, p := range places {
			if len(p.prefix) > len(best.prefix) && (r.URL.Path == p.prefix || strings.HasSuffix(p.prefix, "/") && strings.HasPrefix(r.URL.Path, p.prefix)) {
				best = p
			}
		}
		return best.tel
	}
}

// makeServices makes those of the four that run in this process.
func (s *System) makeServices(ctx context.Context) ([]run.Part, error) {
	var parts []run.Part
	for _, name := range Services() {
		if !s.has(name) {
			continue
		}
		service, err := s.makeService(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		service.Routes(s.server.API())
		parts = append(parts, run.Part{Name: name, Component: service})
	}
	return parts, nil
}

func (s *System) makeService(ctx context.Context, name string) (program.Service, error) {
	tel, err := s.cfg.Provider.Service(ctx, name)
	if err != nil {
		return nil, err
	}
	nc, err := s.connect(name, name)
	if err != nil {
		return nil, err
	}
	switch name {
	case events.ServiceOrder:
		return order.New(order.Config{GatewayURL: s.outside.gateway.URL(), Deadline: s.cfg.OrderDeadline},
			order.Deps{NATS: nc, Topology: s.topology, Registry: s.registry, Telemetry: tel, HTTP: program.HTTPClient(tel)})
	case events.ServiceInventory:
		return inventory.New(inventory.Config{},
			inventory.Deps{NATS: nc, Topology: s.topology, Registry: s.registry, Telemetry: tel})
	case events.ServiceNotify:
		return notify.New(notify.Config{SMTPAddr: s.outside.sink.Addr(), WebhookURL: s.cfg.WebhookURL, WebhookSecret: s.cfg.WebhookSecret},
			notify.Deps{NATS: nc, Topology: s.topology, Registry: s.registry, Telemetry: tel})
	default:
		return analytics.New(s.cfg.Analytics,
			analytics.Deps{NATS: nc, Topology: s.topology, Registry: s.registry, Telemetry: tel})
	}
}

// addrOf is where a service listens; of several instances the first.
func (s *System) addrOf(service string) string {
	first, _, _ := strings.Cut(cmp.Or(s.cfg.At[service], ServiceAddr(service)), ",")
	return first
}

// commandOf is the line that runs a service by itself against this system.
func (s *System) commandOf(service string) string {
	line := fmt.Sprintf("go run ./cmd/%s --nats %s --http %s", service, s.NATSURL(), s.addrOf(service)) + s.access(service).Flags()
	switch service {
	case events.ServiceOrder:
		line += " --gateway " + s.outside.gateway.URL()
		if s.cfg.OrderDeadline > 0 {
			line += " --order-deadline " + s.cfg.OrderDeadline.String()
		}
	case events.ServiceAnalytics:
		line += s.cfg.AnalyticsLine
	case events.ServiceNotify:
		line += " --smtp " + s.outside.sink.Addr()
	}
	return line
}

// mountElsewhere passes the API's parts of services that run by themselves on to them, so that callers need one address still.
func (s *System) mountElsewhere(ctx context.Context) ([]run.Part, error) {
	tel, err := s.cfg.Provider.Service(ctx, "tidemark")
	if err != nil {
		return nil, err
	}
	var parts []run.Part
	transport := program.HTTPClient(tel).Transport
	for _, name := range s.cfg.Without {
		instances := newBackends(name, cmp.Or(s.cfg.At[name], ServiceAddr(name)), s.log)
		parts = append(parts, run.Part{Name: "instances of " + name, Component: instances})
		proxy := &httputil.ReverseProxy{
			Transport: transport,
			ModifyResponse: func(r *http.Response) error {
				r.Header.Del("Traceparent") // ours says it already
				return nil
			},
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: instances.addr()})
				r.Out.URL.RawPath = r.In.URL.RawPath // a SKU may hold an encoded slash
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				instances.failed()
				w.Header().Set("Retry-After", "1")
				httpapi.Problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%s runs by itself and does not answer at %s; start it with: %s", name, instances.addr(), s.commandOf(name)))
			},
		}
		if err := describe(name, s.server.Elsewhere(proxy)); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// describe registers the operations of a service that does not run here, so that each is guarded by its own scopes. No handler of it is ever called.
func describe(name string, api huma.API) error {
	switch name {
	case events.ServiceOrder:
		new(order.Service).Routes(api)
	case events.ServiceInventory:
		new(inventory.Service).Routes(api)
	case events.ServiceNotify:
		new(notify.Service).Routes(api)
	case events.ServiceAnalytics:
		new(analytics.Service).Routes(api)
	default:
		return fmt.Errorf("no service %q", name)
	}
	return nil
}
