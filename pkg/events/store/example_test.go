package store_test

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// The account's event types, and what their payloads must be.
const (
	typeDeposited = "bank.account.deposited.v1"
	typeWithdrawn = "bank.account.withdrawn.v1"
)

//go:embed testdata/bank/*.json
var bankSchemas embed.FS

type moved struct {
	Cents int64 `json:"cents"`
}

// evolve is the balance after one more event. It decides nothing: what happened, happened.
func evolve(balance int64, r store.Recorded) (int64, error) {
	m, err := events.Payload[moved](&r.Event)
	if err != nil {
		return balance, err
	}
	switch r.Type {
	case typeDeposited:
		return balance + m.Cents, nil
	case typeWithdrawn:
		return balance - m.Cents, nil
	}
	return balance, fmt.Errorf("unknown event %s", r.Type)
}

var errOverdrawn = errors.New("not enough money")

// deposit and withdraw are commands: they look at the state and answer with events, or refuse.
func deposit(cents int64) func(store.State[int64]) ([]events.Event, error) {
	return func(store.State[int64]) ([]events.Event, error) { return event(typeDeposited, cents) }
}

func withdraw(cents int64) func(store.State[int64]) ([]events.Event, error) {
	return func(account store.State[int64]) ([]events.Event, error) {
		if cents > account.Value {
			return nil, fmt.Errorf("%w: %d of %d", errOverdrawn, account.Value, cents)
		}
		return event(typeWithdrawn, cents)
	}
}

func event(eventType string, cents int64) ([]events.Event, error) {
	ev, err := events.New("/bank", eventType, "ada", time.Now(), moved{Cents: cents})
	return []events.Event{ev}, err
}

// A bank account is its deposits and withdrawals. The balance is nowhere stored: it is what they add up to. Two withdrawals at
// the same time can't both take the last cent, since the second one is decided again.
func Example() {
	eventstest.Run(func(server *eventstest.Server) {
		if err := bank(server); err != nil {
			fmt.Println("failed:", err)
		}
	})
	// Output:
	// deposited 100.00, balance 100.00
	// a card payment of 80.00 gets in first
	// withdrawal of 30.00 is decided on a balance of 20.00: not enough money: 2000 of 3000
	// 1 bank.account.deposited.v1 100.00
	// 2 bank.account.withdrawn.v1 80.00
	// balance by replay 20.00
}

func bank(server *eventstest.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server.Apply(events.Topology{Streams: []events.Stream{{
		Name: "ACCOUNTS", Subjects: []string{"accounts.*"}, DenyDelete: true, DenyPurge: true, AtomicBatches: true,
	}}})
	schemas, err := fs.Sub(bankSchemas, "testdata/bank")
	if err != nil {
		return err
	}
	registry, err := events.NewRegistry(schemas)
	if err != nil {
		return err
	}
	log := store.New(server.JetStream(), "ACCOUNTS", bus.NewEncoder(registry, bus.Telemetry{}), bus.Telemetry{})
	accounts := store.Aggregate[int64]{Store: log, Evolve: evolve}
	const ada = "accounts.ada"

	account, err := accounts.Execute(ctx, ada, deposit(100_00))
	if err != nil {
		return err
	}
	fmt.Printf("deposited 100.00, balance %s\n", euros(account.Value))

	first := true
	_, err = accounts.Execute(ctx, ada, func(account store.State[int64]) ([]events.Event, error) {
		if first { // somebody else is faster: between our look at the balance and our append
			first = false
			fmt.Println("a card payment of 80.00 gets in first")
			if _, err := accounts.Execute(ctx, ada, withdraw(80_00)); err != nil {
				return nil, err
			}
		} else {
			fmt.Printf("withdrawal of 30.00 is decided on a balance of %s: ", euros(account.Value))
		}
		return withdraw(30_00)(account)
	})
	if !errors.Is(err, errOverdrawn) {
		return fmt.Errorf("the account is overdrawn: %w", err)
	}
	fmt.Println(err)

	history, err := log.Load(ctx, ada)
	if err != nil {
		return err
	}
	balance := int64(0)
	for _, r := range history {
		m, err := events.Payload[moved](&r.Event)
		if err != nil {
			return err
		}
		fmt.Println(r.Version, r.Type, euros(m.Cents))
		if balance, err = evolve(balance, r); err != nil {
			return err
		}
	}
	fmt.Println("balance by replay", euros(balance))
	return nil
}

func euros(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
