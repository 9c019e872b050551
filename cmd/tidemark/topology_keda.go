package main

import (
	"fmt"
	"time"

	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/keda"
)

type topologyKedaCmd struct {
	Namespace  string        `help:"Namespace of the manifests; empty: whoever applies them says."`
	Monitoring string        `default:"nats.tidemark.svc:8222" help:"The broker's monitoring address as KEDA reaches it, host:port."`
	Account    string        `default:"$G" help:"Account of the streams; $G is that of a broker without accounts."`
	PerWorker  int           `default:"100" help:"Events that wait for which one worker is called."`
	Poll       time.Duration `default:"5s" help:"Between two looks of KEDA while nothing runs."`
	Cooldown   time.Duration `default:"5m" help:"After the last event, until no worker runs."`
	Steady     time.Duration `default:"5m" help:"For so long the need must be smaller before a worker is taken away."`
}

// Run prints KEDA's manifests; it needs no broker.
func (c *topologyKedaCmd) Run(a *app) error {
	t := events.DefaultTopology(0)
	out, err := keda.Manifests(&t, keda.Config{
		Namespace: c.Namespace, Monitoring: c.Monitoring, Account: c.Account, PerWorker: c.PerWorker, Poll: c.Poll, Cooldown: c.Cooldown, Steady: c.Steady,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	_, err = a.stdout.Write(out)
	return err
}
