package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// balances is a read model: what every account holds. It is the smallest complete one: a map, in one part.
type balances struct {
	mu      sync.RWMutex
	pence   map[string]events.Minor
	changes uint64
	fee     events.Minor // of a withdrawal
}

func (b *balances) Fold(r store.Recorded) error {
	m, err := events.Payload[moved](&r.Event)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r.Type {
	case typeDeposited:
		b.pence[r.Event.Subject] += m.Pence
	case typeWithdrawn:
		b.pence[r.Event.Subject] -= m.Pence + b.fee
	default:
		return fmt.Errorf("%w: %s", events.ErrUnknownType, r.Type)
	}
	b.changes++
	return nil
}

func (b *balances) Parts() []store.Part {
	return []store.Part{{Name: "all", Revision: b.changes, Encode: func() []byte {
		data, _ := json.Marshal(b.pence) // sorts the keys; numbers can be encoded
		return data
	}}}
}

func (b *balances) Restore(_ string, data []byte) error { return json.Unmarshal(data, &b.pence) }

func (b *balances) Rows() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, account := range slices.Sorted(maps.Keys(b.pence)) {
			if !yield(account, strconv.FormatInt(int64(b.pence[account]), 10)) {
				return
			}
		}
	}
}

func (b *balances) Count() int { return len(b.pence) }

func (b *balances) of(account string) events.Minor {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.pence[account]
}

// A read model of every account goes wrong: the bank's program forgot the fee of a withdrawal. The mended program rebuilds it from the log while the old state goes on answering, compares, and swaps.
func ExampleProjection() {
	eventstest.Run(func(server *eventstest.Server) {
		if err := rebuildBalances(server); err != nil {
			fmt.Println("failed:", err)
		}
	})
	// Output:
	// version 1 has ada 20.00
	// rebuilt beside it: 1 of 2 rows differ, such as ada: "2000" becomes "1950"
	// version 2 has ada 19.50
}

func rebuildBalances(server *eventstest.Server) error {
	server.Apply(events.Topology{
		Streams: []events.Stream{{Name: "BANK", Subjects: []string{"bank.*"}, DenyDelete: true, DenyPurge: true, AtomicBatches: true}},
		Buckets: []events.Bucket{{Name: "SNAPSHOTS", Objects: true}, {Name: "PROJECTIONS"}},
	})
	schemas, err := fs.Sub(bankSchemas, "testdata/bank")
	if err != nil {
		return err
	}
	registry, err := events.NewRegistry(schemas)
	if err != nil {
		return err
	}
	js, ctx := server.JetStream(), context.Background()
	log := store.New(js, "BANK", bus.NewEncoder(registry, bus.Telemetry{}), bus.Telemetry{})
	accounts := store.Aggregate[events.Minor]{Store: log, Evolve: evolve}
	for _, command := range []func(store.State[events.Minor]) ([]events.Event, error){deposit(10_000), withdraw(8_000)} {
		if _, err := accounts.Execute(ctx, "bank.ada", command); err != nil {
			return err
		}
	}
	other, err := events.New("/bank", typeDeposited, "bob", time.Now(), moved{Pence: 500})
	if err != nil {
		return err
	}
	if _, err := log.Append(ctx, "bank.bob", 0, other); err != nil {
		return err
	}
	run := func(fold int, fee events.Minor, work func(*store.Projection[*balances]) error) error {
		p, err := store.NewProjection(store.ProjectionConfig[*balances]{
			Name: "balances", Fold: fold, Layout: 1, Logs: []*store.Store{log}, New: func() *balances { return &balances{pence: map[string]events.Minor{}, fee: fee} },
		}, store.ProjectionDeps{JS: js, Snapshots: "SNAPSHOTS", Versions: "PROJECTIONS"})
		if err != nil {
			return err
		}
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		<-p.CaughtUp()
		err = work(p)
		stop()
		if ended := <-ended; err == nil {
			err = ended
		}
		return err
	}
	show := func(p *store.Projection[*balances], version int) {
		fmt.Printf("version %d has ada %.2f\n", version, float64(p.Live().of("ada"))/100)
	}
	if err := run(1, 0, func(*store.Projection[*balances]) error { return nil }); err != nil { // the old program
		return err
	}
	return run(2, 50, func(p *store.Projection[*balances]) error { // the mended one
		show(p, 1)
		if _, err := p.Rebuild(ctx, false); err != nil {
			return err
		}
		c, err := p.Swap(ctx, store.SwapOptions{})
		if err != nil {
			return err
		}
		fmt.Printf("rebuilt beside it: %d of %d rows differ, such as %s: %q becomes %q\n", c.Differ, c.Count, c.First[0].Key, c.First[0].Live, c.First[0].Version)
		show(p, 2)
		return nil
	})
}
