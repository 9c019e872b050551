package load

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// Half of the share are orders of one SKU that are valid in themselves, half clicks that no program can read, stored past the API.
func TestPoison(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	clicks, _ := topology.Stream(events.StreamClicks)
	server := eventstest.Start(t)
	server.Apply(events.Topology{Partitions: topology.Partitions, Streams: []events.Stream{clicks}})
	shop := newShop()
	shop.nats = server.URL()
	cfg := Config{API: shop.start(t), Rate: 4000, For: 500 * time.Millisecond, Seed: 7, Start: time.Now().Add(-time.Minute), Poison: 0.02}
	got, _ := mustRun(t, cfg)
	if got.PoisonMail != 20 || got.PoisonClicks != 20 || got.Clicks != 1780 {
		t.Errorf("got %+v, want 20 of each and the other 1,780 clicks", got)
	}
	orders := 0
	for _, o := range shop.sent {
		if o.Lines[0].SKU != PoisonSKU {
			continue
		}
		orders++
		if o.Email == "" || len(o.Lines) != 1 || strings.HasPrefix(o.Lines[0].UnitPrice, "-") {
			t.Errorf("the order %+v is not valid, or nobody is told of it", o)
		}
	}
	if orders != 20 || shop.units[PoisonSKU] != madeStock {
		t.Errorf("%d orders of %s, %d in stock", orders, PoisonSKU, shop.units[PoisonSKU])
	}
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range storedClicks(t, server, 20) {
		ev, err := registry.Decode(events.Header(m.Header), m.Data)
		if err == nil {
			err = registry.Validate(&ev)
		}
		if err == nil {
			t.Errorf("%s can be read", m.Data)
		}
	}
	again, _ := mustRun(t, cfg)
	storedClicks(t, server, 20) // none twice
	if again.PoisonMail != 20 || again.PoisonClicks != 20 {
		t.Errorf("the same again: %+v, want the same numbers", again)
	}
}

// storedClicks are the messages of CLICKS, which must be as many as want.
func storedClicks(t *testing.T, server *eventstest.Server, want int) []*jetstream.RawStreamMsg {
	t.Helper()
	stream, err := server.JetStream().Stream(t.Context(), events.StreamClicks)
	if err != nil {
		t.Fatal(err)
	}
	state := stream.CachedInfo().State
	if state.Msgs != uint64(want) { //nolint:gosec // a count
		t.Errorf("%d clicks are stored, want %d", state.Msgs, want)
	}
	var all []*jetstream.RawStreamMsg
	for n := state.FirstSeq; n <= state.LastSeq; n++ {
		m, err := stream.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func TestPoisonIsSpreadEvenly(t *testing.T) {
	t.Parallel()
	m := newMaker(Config{Rate: 1000, For: time.Minute, Poison: 0.002, Start: time.Now()})
	orders, clicks := 0, 0
	for n := range m.number {
		switch {
		case m.isOrder(n) && m.poisonOrder(n/everyTenth):
			orders++
		case !m.isOrder(n) && m.poisonClick(clickNumber(n)):
			clicks++
		}
	}
	if orders != 60 || clicks < 59 || clicks > 60 {
		t.Errorf("%d orders and %d clicks of 60,000 events, want 60 of each", orders, clicks)
	}
	if m.order(990).Lines[0].SKU != PoisonSKU {
		t.Errorf("the hundredth order is %+v", m.order(990))
	}
	none := newMaker(Config{Rate: 1000, For: time.Minute, Start: time.Now()}).order(990)
	if none.Lines[0].SKU == PoisonSKU {
		t.Error("poison that nobody asked for")
	}
}
