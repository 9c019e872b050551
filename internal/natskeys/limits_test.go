package natskeys_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestAnswersGoWhereTheRequestSays shows what docs/limits.md says of the broker's permissions: they hold for what a user publishes itself, and not for the subject that it
// wants an answer on. If it fails, the broker has become stricter: then the page is to be corrected.
func TestAnswersGoWhereTheRequestSays(t *testing.T) {
	t.Parallel()
	b := startBroker(t, "")
	topology := events.DefaultTopology(0)
	subjects := topology.Subjects()
	inventory, operator := b.connect(t, events.ServiceInventory), b.connect(t, events.UserOperator)
	js, err := jetstream.New(operator)
	if err != nil {
		t.Fatal(err)
	}
	last := func(stream string) uint64 {
		s, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.LastSeq
	}
	if err := inventory.PublishMsg(&nats.Msg{Subject: subjects.StockOrder("o"), Header: nats.Header{"ce-type": {"forged"}}, Data: []byte("forged")}); err != nil {
		t.Fatal(err)
	}
	if err := inventory.Flush(); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, 10*time.Second, "it is stored", func() bool { return last(events.StreamStock) == 1 })
	orders := subjects.Order("o")
	if allowed(t, inventory, row{subject: orders}) {
		t.Error("inventory may publish orders itself")
	}

	request, err := json.Marshal(map[string]any{"seq": 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := inventory.PublishRequest("$JS.API.DIRECT.GET."+events.StreamStock, orders, request); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, 10*time.Second, "an answer of the direct API is stored in ORDERS", func() bool { return last(events.StreamOrders) == 1 })

	stream, err := js.Stream(t.Context(), events.StreamOrders)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil || string(m.Data) != "forged" || m.Header.Get("Nats-Stream") != events.StreamStock {
		t.Errorf("what is stored in ORDERS: %+v %v", m, err)
	}
	t.Logf("headers %v", m.Header)
}
