package store_test

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// An account with many movements is not added up from the first one each time: a snapshot holds the balance of some time ago, and only what came since is read.
// Who deletes it waits a little longer, once.
func Example_snapshots() {
	eventstest.Run(func(server *eventstest.Server) {
		if err := shortLoads(server); err != nil {
			fmt.Println("failed:", err)
		}
	})
	// Output:
	// balance 120.00 of 120 events, 120 of them read
	// balance 120.00 of 120 events, 0 of them read
	// balance 123.00 of 123 events, 3 of them read
	// without its snapshot
	// balance 123.00 of 123 events, 123 of them read
}

func shortLoads(server *eventstest.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log, err := openBank(server)
	if err != nil {
		return err
	}
	server.Apply(events.Topology{Buckets: []events.Bucket{{Name: "ACCOUNT_SNAPSHOTS"}}})
	bucket, err := store.NewSnapshotBucket(ctx, server.JetStream(), "ACCOUNT_SNAPSHOTS", bus.Telemetry{})
	if err != nil {
		return err
	}
	read := 0
	accounts := store.Aggregate[events.Minor]{
		Store: log,
		Evolve: func(balance events.Minor, r store.Recorded) (events.Minor, error) {
			read++
			return evolve(balance, r)
		},
		Snapshots: &store.AggregateSnapshots[events.Minor]{Bucket: bucket, Fold: "account/1"},
	}
	const ada = "accounts.ada"
	show := func() error {
		read = 0
		account, err := accounts.Load(ctx, ada)
		if err != nil {
			return err
		}
		fmt.Printf("balance %s of %d events, %d of them read\n", account.Value, account.Version, read)
		return bucket.Flush(ctx) // snapshots are written in the background
	}
	pay := func(last uint64, n int) (uint64, error) {
		deposits := make([]events.Event, n)
		for i := range deposits {
			if deposits[i], err = events.New("/bank", typeDeposited, "ada", time.Now(), moved{Pence: 1_00}); err != nil {
				return 0, err
			}
		}
		return log.Append(ctx, ada, last, deposits...)
	}

	last, err := pay(0, 120)
	if err != nil {
		return err
	}
	for range 2 {
		if err := show(); err != nil {
			return err
		}
	}
	if _, err := pay(last, 3); err != nil {
		return err
	}
	if err := show(); err != nil {
		return err
	}
	entries, err := server.JetStream().KeyValue(ctx, "ACCOUNT_SNAPSHOTS")
	if err != nil {
		return err
	}
	if err := entries.Delete(ctx, ada); err != nil {
		return err
	}
	fmt.Println("without its snapshot")
	return show()
}
