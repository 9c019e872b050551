package lookup_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// Who takes over reads from the leader what the one before wrote last: a replica might not have it yet, and "nobody was here" would be wrong.
func Example() {
	eventstest.Run(func(s *eventstest.Server) {
		ctx, js := context.Background(), s.JetStream()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "SHIFTS", Subjects: []string{"shifts.*"}, AllowDirect: true})
		if err != nil {
			log.Fatal(err)
		}
		if _, err := js.Publish(ctx, "shifts.till-1", []byte("ann")); err != nil {
			log.Fatal(err)
		}
		shifts := lookup.Of(js, "SHIFTS")

		m, err := shifts.FromLeader(ctx, lookup.Request{LastBySubject: "shifts.till-1"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s has %s, message %d\n", m.Subject, m.Data, m.Sequence)

		_, err = shifts.FromLeader(ctx, lookup.Request{LastBySubject: "shifts.till-2"})
		fmt.Println("till 2 is free:", errors.Is(err, jetstream.ErrMsgNotFound))

		// The message is there and never changes, so any replica may show it.
		m, err = shifts.FromAny(ctx, lookup.Request{Sequence: m.Sequence})
		fmt.Println(string(m.Data), err)
	})
	// Output:
	// shifts.till-1 has ann, message 1
	// till 2 is free: true
	// ann <nil>
}
