package main

import "github.com/tidemark/tidemark/internal/program"

type healthcheckCmd struct {
	HTTP string `name:"http" env:"TIDEMARK_HTTP" default:"127.0.0.1:8080" help:"Address that tidemark up was given."`
}

// Run is the health check of a container that has no other program than this one.
func (c *healthcheckCmd) Run(a *app) error { return program.Healthcheck(a.ctx, c.HTTP) }
