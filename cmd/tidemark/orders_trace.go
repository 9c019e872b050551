package main

import (
	"encoding/json"

	"github.com/tidemark/tidemark/internal/journey"
	"github.com/tidemark/tidemark/pkg/events"
)

type ordersTraceCmd struct {
	broker     `embed:""`
	jaegerLink `embed:""`
	ID         string `arg:"" help:"The order's id."`
	JSON       bool   `name:"json" help:"One object on one line."`
}

// Run tells the order's way from the logs. It asks no collector.
func (c *ordersTraceCmd) Run(a *app) error {
	js, end, err := c.connect(a)
	if err != nil {
		return err
	}
	defer end()
	j, err := journey.New(js, events.DefaultTopology(0)).Read(a.ctx, c.ID)
	if err != nil {
		return err
	}
	j.Jaeger = c.link(j.Trace)
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(j)
	}
	return j.Print(a.stdout)
}
