package eventstest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestTopologyAppliesTwice(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"R1": eventstest.Start, "R3": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Apply(events.DefaultTopology(2))
			s.Apply(events.DefaultTopology(2))
		})
	}
}

func ExampleRun() {
	eventstest.Run(func(s *eventstest.Server) {
		s.Apply(events.DefaultTopology(2))
		stream, err := s.JetStream().Stream(context.Background(), events.StreamOrders)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(stream.CachedInfo().Config.Subjects)
	})
	// Output: [orders.*.*]
}

// A proxy takes the broker's answer away after the broker has stored the message.
func TestProxyLosesAnAnswer(t *testing.T) {
	t.Parallel()
	s := eventstest.Start(t)
	s.Apply(events.Topology{Streams: []events.Stream{{Name: "TEST", Subjects: []string{"test"}}}})
	proxy := s.NewProxy()
	nc := proxy.Connect()
	lost := proxy.LoseAnswer("second", true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := nc.RequestWithContext(ctx, "test", []byte("first")); err != nil {
		t.Fatalf("an answer is lost that should not be: %v", err)
	}
	short, end := context.WithTimeout(ctx, 100*time.Millisecond)
	defer end()
	if reply, err := nc.RequestWithContext(short, "test", []byte("second")); err == nil {
		t.Errorf("the answer arrived: %s", reply.Data)
	}
	<-lost
	if _, err := nc.RequestWithContext(ctx, "test", []byte("third")); err != nil {
		t.Errorf("the client does not come back: %v", err)
	}
	stream, err := s.JetStream().Stream(ctx, "TEST")
	if err != nil || stream.CachedInfo().State.Msgs != 3 {
		t.Errorf("%v, %v", stream, err)
	}
}

func TestRestartKeepsAddressAndData(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"R1": eventstest.Start, "R3": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Apply(events.Topology{Streams: []events.Stream{{Name: "TEST", Subjects: []string{"test"}}}})
			js := s.JetStream()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := js.Publish(ctx, "test", nil); err != nil {
				t.Fatal(err)
			}
			url := s.URL()
			s.Restart(0)
			if s.URL() != url {
				t.Errorf("address %s became %s", url, s.URL())
			}
			eventstest.Eventually(t, 20*time.Second, "the message is there", func() bool {
				// A request that was written to the connection that is about to break is lost, and waits for as long as it may.
				short, end := context.WithTimeout(ctx, time.Second)
				defer end()
				stream, err := js.Stream(short, "TEST")
				return err == nil && stream.CachedInfo().State.Msgs == 1
			})
			if name == "R3" {
				s.StepDown("TEST")
			}
		})
	}
}
