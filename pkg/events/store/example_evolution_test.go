package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// typeDepositedV1 is what the bank's first release published: pounds, as a float. Such events are stored for ever.
const typeDepositedV1 = "bank.account.deposited.v1"

// poundsToPence makes the payload of today from the one of then. A field that it does not know, it keeps.
func poundsToPence() events.Upcast {
	return events.Upcast{From: typeDepositedV1, To: typeDeposited, Payload: events.Fields(func(fields map[string]json.RawMessage) error {
		var pounds float64
		if err := json.Unmarshal(fields["pounds"], &pounds); err != nil {
			return fmt.Errorf("pounds: %w", err)
		}
		delete(fields, "pounds")
		fields["pence"] = strconv.AppendInt(nil, int64(math.Round(pounds*100)), 10)
		return nil
	})}
}

// An event type changes, and the old events stay as they are. A step from the old JSON to the new one belongs to the catalogue; the fold knows the newest version
// only.
func Example_evolution() {
	eventstest.Run(func(server *eventstest.Server) {
		if err := evolution(server); err != nil {
			fmt.Println("failed:", err)
		}
	})
	// Output:
	// without the step: unknown event type: "bank.account.deposited.v1", sequence 1 of ACCOUNTS, on accounts.ada
	// 1 is read as bank.account.deposited.v2 {"note":"rent","pence":29}
	// 2 is read as bank.account.deposited.v2 {"pence":71}
	// balance 1.00
	// 1 is still stored as {"pounds":0.29,"note":"rent"}
}

func evolution(server *eventstest.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log, err := openBank(server)
	if err != nil {
		return err
	}
	const ada = "accounts.ada"
	old, err := events.New("/bank", typeDepositedV1, "ada", time.Now(), json.RawMessage(`{"pounds":0.29,"note":"rent"}`))
	if err != nil {
		return err
	}
	if _, err := log.Append(ctx, ada, 0, old); err != nil {
		return err
	}
	accounts := store.Aggregate[events.Minor]{Store: log, Evolve: evolve}
	var unknown *store.UnknownEventError
	if _, err := accounts.Load(ctx, ada); !errors.As(err, &unknown) { // the fold guesses nothing
		return fmt.Errorf("an unknown event is folded: %w", err)
	}
	fmt.Println("without the step:", unknown)

	if accounts.Store, err = openBank(server, poundsToPence()); err != nil {
		return err
	}
	account, err := accounts.Execute(ctx, ada, deposit(71))
	if err != nil {
		return err
	}
	history, err := accounts.Store.Load(ctx, ada)
	if err != nil {
		return err
	}
	for i, r := range history {
		fmt.Println(i+1, "is read as", r.Type, string(r.Data))
	}
	fmt.Println("balance", account.Value)
	stored, err := log.Get(ctx, 1)
	if err != nil {
		return err
	}
	fmt.Println("1 is still stored as", string(stored.Data))
	return nil
}
