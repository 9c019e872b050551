// Command analytics runs the analytics service by itself: windows of event time, and the clickstream's way in.
package main

import (
	"fmt"
	"os"

	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/services/analytics"
)

type cli struct {
	program.Common  `embed:""`
	HTTP            string `name:"http" env:"TIDEMARK_HTTP" default:"127.0.0.1:8084" help:"Address of the API."`
	analytics.Flags `embed:""`
}

func main() {
	var c cli
	program.Parse("analytics", "The analytics service: counts by event time, takes clicks.", &c)
	cfg, err := c.Flags.Config()
	if err != nil {
		os.Exit(program.Exit("analytics", fmt.Errorf("%w: %w", program.ErrUsage, err)))
	}
	os.Exit(program.Exit("analytics", program.RunService(program.ServiceSpec{
		Name: events.ServiceAnalytics, Common: c.Common, HTTP: c.HTTP,
		Make: func(env program.Env) (program.Service, error) {
			return analytics.New(cfg, analytics.Deps{NATS: env.NATS, Topology: env.Topology, Registry: env.Registry, Telemetry: env.Telemetry})
		},
	})))
}
