// Command inventory runs the inventory service by itself: the warehouse's decisions and its HTTP API.
package main

import (
	"os"

	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/services/inventory"
)

type cli struct {
	program.Common `embed:""`
	program.Role   `embed:""`
	HTTP           string `name:"http" env:"TIDEMARK_HTTP" default:"127.0.0.1:8082" help:"Address of the API."`
}

func main() {
	var c cli
	program.Parse("inventory", "The inventory service: reserves, commits and releases stock.", &c)
	os.Exit(program.Exit("inventory", program.RunService(program.ServiceSpec{
		Name: events.ServiceInventory, Common: c.Common, HTTP: c.HTTP, Role: c.Role.Role,
		Make: func(env program.Env) (program.Service, error) {
			return inventory.New(inventory.Config{APIOnly: c.APIOnly()},
				inventory.Deps{NATS: env.NATS, Topology: env.Topology, Registry: env.Registry, Telemetry: env.Telemetry})
		},
	})))
}
