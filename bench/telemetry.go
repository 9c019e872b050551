package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
)

// telemetryCmd compares what telemetry costs an order. Each kind is a whole system in a process of its own; they take turns, round by round, so that all see the same machine.
type telemetryCmd struct {
	N      int `default:"1500" help:"Orders a round."`
	Rounds int `default:"9" help:"Rounds of each; they take turns."`
	Open   int `default:"256" help:"Orders that are open at once."`
}

// Run prints orders a second with telemetry disabled, off, and with 1 % and all traces exported.
func (c *telemetryCmd) Run(b *bench) error {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	export := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_TRACES_SAMPLER=parentbased_traceidratio"}
	kinds := []struct {
		name string
		env  []string
	}{
		{"nothing recorded (`OTEL_SDK_DISABLED=true`)", []string{"OTEL_SDK_DISABLED=true"}},
		{"off: metrics, no traces", nil},
		{"1 % of the traces exported", slices.Concat(export, []string{"OTEL_TRACES_SAMPLER_ARG=0.01"})},
		{"all traces exported", slices.Concat(export, []string{"OTEL_TRACES_SAMPLER_ARG=1"})},
	}
	var children []*child
	defer func() {
		for _, ch := range children {
			ch.stop()
		}
	}()
	for _, k := range kinds {
		ch, err := startChild(b.ctx, systemCmd{N: c.N, Open: c.Open}, k.env)
		if err != nil {
			return err
		}
		children = append(children, ch)
		if err := ch.ready(); err != nil {
			return err
		}
	}
	rounds := make([][]round, len(kinds))
	for range c.Rounds {
		for i, ch := range children {
			r, err := ch.round(roundOurs)
			if err != nil {
				return err
			}
			rounds[i] = append(rounds[i], r)
		}
	}
	b.say("| telemetry | orders/s (median of %d, lowest to highest) | CPU an order: ours / nats-server | ratio to nothing recorded: median of the turns |", c.Rounds)
	b.say("|---|---|---|---|")
	for i, k := range kinds {
		b.say("| %s | %s | %s | %.2f |", k.name, spread(rounds[i]), perOrder(rounds[i], c.N), turns(rounds[i], rounds[0]))
	}
	return nil
}

// turns is the median of the ratios of two that ran one after the other: the machine's speed moves from minute to minute.
func turns(a, b []round) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i].rate / b[i].rate
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}
