package inventory

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Config configures the service. The zero value is good.
type Config struct {
	// SnapshotEvery is after how many events of STOCK the state is stored anew; what a start reads at most, roughly. Default 20,000; -1: never.
	SnapshotEvery int
	// BatchFrom is how many requests must wait for them to be decided together and appended as one atomic batch. Below, each is appended by itself. Default: where STOCK
	// is replicated, 2, since a batch takes about as long as one append there; where one server keeps it, 100, since that server writes a batch to a file of its own
	// and syncs it to the disk, in which time dozens of single appends are done.
	BatchFrom int
	// MaxBatch is how many requests are decided together at most. Default 200; at most 500.
	MaxBatch int
	// Lanes is how many orders one partition handles at once. Default 64.
	Lanes int
	// APIOnly: this instance serves the API, receipts among it, and reads no orders; others do.
	APIOnly bool
}

// maxBatchLimit keeps a batch below the server's limit of 1,000 messages with room to spare.
const maxBatchLimit = 500

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.SnapshotEvery, 20_000)
	set(&c.MaxBatch, 200)
	set(&c.Lanes, 64)
	return c
}

// Validate reports every field that breaks a rule, joined. Zero means the default, so it is valid everywhere.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, name, rule string, v int) {
		if !ok {
			errs = append(errs, fmt.Errorf("inventory: %s: %s, is %d", name, rule, v))
		}
	}
	check(c.SnapshotEvery >= -1, "SnapshotEvery", "must be 1 or more, or -1 for never", c.SnapshotEvery)
	check(c.BatchFrom == 0 || c.BatchFrom >= 2, "BatchFrom", "must be 2 or more", c.BatchFrom)
	check(c.MaxBatch >= 2 && c.MaxBatch <= maxBatchLimit, "MaxBatch", "must be 2 to 500", c.MaxBatch)
	check(c.Lanes >= 1, "Lanes", "must be 1 or more", c.Lanes)
	return errors.Join(errs...)
}

// Deps are what the service needs.
type Deps struct {
	NATS      *nats.Conn       // required; whoever starts the service closes it
	Topology  events.Topology  // required, and applied already
	Registry  *events.Registry // required
	Telemetry bus.Telemetry
}

func (d Deps) validate() error {
	var errs []error
	if d.NATS == nil {
		errs = append(errs, errors.New("inventory: NATS: required, is nil"))
	}
	if d.Registry == nil {
		errs = append(errs, errors.New("inventory: Registry: required, is nil"))
	}
	if _, ok := d.Topology.Group(events.GroupInventory); !ok {
		errs = append(errs, fmt.Errorf("inventory: Topology: has no group %q", events.GroupInventory))
	}
	return errors.Join(errs...)
}
