// Command order runs the order service by itself: the HTTP API, the order aggregate and its process manager.
package main

import (
	"os"
	"time"

	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/services/order"
)

type cli struct {
	program.Common `embed:""`
	program.Role   `embed:""`
	HTTP           string        `name:"http" env:"TIDEMARK_HTTP" default:"127.0.0.1:8081" help:"Address of the API."`
	Gateway        string        `env:"TIDEMARK_GATEWAY_URL" default:"http://127.0.0.1:8090" help:"URL of the payment gateway."`
	OrderDeadline  time.Duration `env:"TIDEMARK_ORDER_DEADLINE" default:"2m" help:"After this time an order that is still open is rejected."`
}

func main() {
	var c cli
	program.Parse("order", "The order service: HTTP API, order aggregate, process manager.", &c)
	os.Exit(program.Exit("order", program.RunService(program.ServiceSpec{
		Name: events.ServiceOrder, Common: c.Common, HTTP: c.HTTP, Role: c.Role.Role,
		Make: func(env program.Env) (program.Service, error) {
			return order.New(order.Config{GatewayURL: c.Gateway, Deadline: c.OrderDeadline, APIOnly: c.APIOnly()},
				order.Deps{NATS: env.NATS, Topology: env.Topology, Registry: env.Registry, Telemetry: env.Telemetry, HTTP: program.HTTPClient(env.Telemetry)})
		},
	})))
}
