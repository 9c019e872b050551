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

// The account's event types, and what their payloads must be. Deposits are in their second version; see the example of evolution.
const (
	typeDeposited = "bank.account.deposited.v2"
	typeWithdrawn = "bank.account.withdrawn.v1"
)

//go:embed testdata/bank/*.json
var bankSchemas embed.FS

type moved struct {
	Pence events.Minor `json:"pence"`
}

// evolve is the balance after one more event. It decides nothing: what happened, happened.
func evolve(balance events.Minor, r store.Recorded) (events.Minor, error) {
	m, err := events.Payload[moved](&r.Event)
	if err != nil {
		return balance, err
	}
	switch r.Type {
	case typeDeposited:
		return balance + m.Pence, nil
	case typeWithdrawn:
		return balance - m.Pence, nil
	}
	return balance, store.Unknown(r)
}

var errOverdrawn = errors.New("not enough money")

// deposit and withdraw are commands: they look at the state and answer with events, or refuse.
func deposit(pence events.Minor) func(store.State[events.Minor]) ([]events.Event, error) {
	return func(store.State[events.Minor]) ([]events.Event, error) { return event(typeDeposited, pence) }
}

func withdraw(pence events.Minor) func(store.State[events.Minor]) ([]events.Event, error) {
	return func(account store.State[events.Minor]) ([]events.Event, error) {
		if pence > account.Value {
			return nil, fmt.Errorf("%w: %s of %s", errOverdrawn, account.Value, pence)
		}
		return event(typeWithdrawn, pence)
	}
}

func event(eventType string, pence events.Minor) ([]events.Event, error) {
	ev, err := events.New("/bank", eventType, "ada", time.Now(), moved{Pence: pence})
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
	// withdrawal of 30.00 is decided on a balance of 20.00: not enough money: 20.00 of 30.00
	// 1 bank.account.deposited.v2 100.00
	// 2 bank.account.withdrawn.v1 80.00
	// balance by replay 20.00
}

// openBank makes the stream real and opens it, with steps that upcast old events.
func openBank(server *eventstest.Server, steps ...events.Upcast) (*store.Store, error) {
	server.Apply(events.Topology{Streams: []events.Stream{{
		Name: "ACCOUNTS", Subjects: []string{"accounts.*"}, DenyDelete: true, DenyPurge: true, AtomicBatches: true,
	}}})
	schemas, err := fs.Sub(bankSchemas, "testdata/bank")
	if err != nil {
		return nil, err
	}
	registry, err := events.NewRegistry(schemas)
	if err != nil {
		return nil, err
	}
	if registry, err = registry.Evolving(steps...); err != nil {
		return nil, err
	}
	return store.New(server.JetStream(), "ACCOUNTS", bus.NewEncoder(registry, bus.Telemetry{}), bus.Telemetry{}), nil
}

func bank(server *eventstest.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log, err := openBank(server)
	if err != nil {
		return err
	}
	accounts := store.Aggregate[events.Minor]{Store: log, Evolve: evolve}
	const ada = "accounts.ada"

	account, err := accounts.Execute(ctx, ada, deposit(100_00))
	if err != nil {
		return err
	}
	fmt.Printf("deposited 100.00, balance %s\n", account.Value)

	first := true
	_, err = accounts.Execute(ctx, ada, func(account store.State[events.Minor]) ([]events.Event, error) {
		if first { // somebody else is faster: between our look at the balance and our append
			first = false
			fmt.Println("a card payment of 80.00 gets in first")
			if _, err := accounts.Execute(ctx, ada, withdraw(80_00)); err != nil {
				return nil, err
			}
		} else {
			fmt.Printf("withdrawal of 30.00 is decided on a balance of %s: ", account.Value)
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
	var balance events.Minor
	for _, r := range history {
		m, err := events.Payload[moved](&r.Event)
		if err != nil {
			return err
		}
		fmt.Println(r.Version, r.Type, m.Pence)
		if balance, err = evolve(balance, r); err != nil {
			return err
		}
	}
	fmt.Println("balance by replay", balance)
	return nil
}
