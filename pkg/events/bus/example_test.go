package bus_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// cancelled is an event of an order.
func cancelled(order string) events.Event {
	ev, err := events.New("/example", events.TypeOrderCancelled, order, time.Now(), events.OrderCancelled{OrderID: order, CustomerID: "c-1"})
	if err != nil {
		panic(err)
	}
	return ev
}

// ExamplePublisher stores an event. The same event again is recognised.
func ExamplePublisher() {
	eventstest.Run(func(s *eventstest.Server) {
		topology := s.Apply(events.DefaultTopology(2))
		registry, err := events.NewRegistry()
		if err != nil {
			panic(err)
		}
		subjects := topology.Subjects()
		publisher := bus.NewPublisher(bus.Deps{JS: s.JetStream(), Encoder: bus.NewEncoder(registry, bus.Telemetry{})})

		event := cancelled("o-1")
		for range 2 {
			ack, err := publisher.Publish(context.Background(), subjects.Order("o-1"), event)
			fmt.Println(ack.Stream, ack.Sequence, ack.Duplicate, err)
		}
	})
	// Output:
	// ORDERS 1 false <nil>
	// ORDERS 1 true <nil>
}

// ExampleGroup reads orders as a member of a consumer group. Its handler fails for one order for good: that event becomes a dead letter, and the others
// are not held up.
func ExampleGroup() {
	eventstest.Run(func(s *eventstest.Server) {
		topology := s.Apply(events.DefaultTopology(2))
		registry, err := events.NewRegistry()
		if err != nil {
			panic(err)
		}
		deps := bus.Deps{JS: s.JetStream(), Encoder: bus.NewEncoder(registry, bus.Telemetry{}), Subjects: topology.Subjects()}
		declared, _ := topology.Group(events.GroupNotify)

		handled := make(chan string)
		group, err := bus.NewGroup(bus.GroupConfig{Group: declared, Handler: func(_ context.Context, d bus.Delivery) error {
			if d.Event.PartitionKey == "o-2" {
				return fail.Permanent(errors.New("no such mailbox"))
			}
			handled <- d.Event.PartitionKey
			return nil
		}}, deps)
		if err != nil {
			panic(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- group.Run(ctx) }()
		<-group.Ready()

		publisher := bus.NewPublisher(deps)
		for _, order := range []string{"o-2", "o-1"} {
			if _, err := publisher.Publish(ctx, deps.Subjects.Order(order), cancelled(order)); err != nil {
				panic(err)
			}
		}
		fmt.Println("handled", <-handled)

		dlq, err := deps.JS.Stream(ctx, events.StreamDLQ)
		if err != nil {
			panic(err)
		}
		for { // the letter is stored at about the same time
			letter, err := dlq.GetLastMsgForSubject(ctx, deps.Subjects.Letter(declared.Name, deps.Subjects.PartitionOf("o-2"), "o-2"))
			if err == nil {
				fmt.Println("dead letter", letter.Header.Get(deadletter.HeaderReason), letter.Header.Get(deadletter.HeaderError))
				break
			}
		}
		stop()
		fmt.Println("stopped", <-ended)
	})
	// Output:
	// handled o-1
	// dead letter permanent no such mailbox
	// stopped <nil>
}
