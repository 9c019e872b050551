package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
)

const (
	everyTenth   = 10 // one order, nine clicks
	wrongEvery   = 50 // of 50 orders one has a negative price, and one a price with three decimals
	clickBatch   = 100
	clickWait    = 200 * time.Millisecond // a click waits no longer for others to travel with
	madeSKUs     = 60
	madeShoppers = 400
	loadSource   = "/tidemark/load"
)

// maker makes up events. Each follows from the seed and its number alone, so the same run can be made up again.
type maker struct {
	seed   uint64
	run    string
	start  time.Time
	rate   float64
	number int // of events
	poison float64
	twice  float64
	delays delays
}

func newMaker(cfg Config) maker {
	m := maker{
		seed: cfg.Seed, run: cfg.run(), start: cfg.Start, rate: cfg.Rate, number: int(cfg.For.Seconds() * cfg.Rate), poison: cfg.Poison, twice: cfg.Twice,
		delays: cfg.delays(),
	}
	if cfg.Late {
		m.run += fmt.Sprintf("-late%g", cfg.LateStretch) // dated otherwise, so another run
	}
	return m
}

func (m maker) isOrder(n int) bool { return n%everyTenth == 0 }

// orders is how many of the events are orders.
func (m maker) orders() int { return (m.number + everyTenth - 1) / everyTenth }

// at is when event n is sent.
func (m maker) at(n int) time.Time {
	return m.start.Add(time.Duration(float64(n) / m.rate * float64(time.Second)))
}

// happened is event n's time: its delay before it is sent. So the rate stays what was asked for, and nobody waits for the longest delay.
func (m maker) happened(n int) time.Time { return m.at(n).Add(-m.delays.of(n)) }

func (m maker) key(kind string, n int) string {
	return fmt.Sprintf("made-%d-%s-%s-%d", m.seed, m.run, kind, n)
}

func (m maker) random(n int) *rand.Rand {
	return rand.New(rand.NewPCG(m.seed, uint64(n))) //nolint:gosec // made-up input, not a secret; n is not negative
}

func (m maker) skus() []string {
	skus := make([]string, 0, madeSKUs+1)
	for i := range madeSKUs {
		skus = append(skus, madeSKU(i))
	}
	if m.poison > 0 {
		skus = append(skus, PoisonSKU)
	}
	return skus
}

func madeSKU(i int) string {
	kinds := [...]string{"MUG", "LANTERN", "GIFT BAG", "CLOCK", "T-LIGHT", "CAKE STAND"}
	return fmt.Sprintf("%s %02d", kinds[i%len(kinds)], i/len(kinds)+1)
}

// madePrice is a SKU's price in pence.
func madePrice(i int) events.Minor { return events.Minor(85 + 37*i) }

func (m maker) order(n int) client.NewOrder {
	r := m.random(n)
	o := client.NewOrder{Currency: "GBP", PlacedAt: m.happened(n)}
	if r.IntN(4) > 0 { // the others are guests
		o.Customer = strconv.Itoa(10_000 + r.IntN(madeShoppers))
		o.Email = o.Customer + "@customers.example"
	}
	for range 1 + r.IntN(4) {
		i := r.IntN(madeSKUs)
		o.Lines = append(o.Lines, client.Line{SKU: madeSKU(i), Quantity: 1 + r.Int64N(3), UnitPrice: madePrice(i).String()})
	}
	if m.poisonOrder(n / everyTenth) {
		return m.poisoned(o, n)
	}
	switch (n / everyTenth) % wrongEvery { // dirt, as real shops have it: the API must refuse it
	case 3:
		o.Lines[0].UnitPrice = "-" + o.Lines[0].UnitPrice
	case 7:
		o.Lines[0].UnitPrice += "5"
	}
	return o
}

func (m maker) click(n int) (events.Event, error) {
	r := m.random(n)
	user := strconv.Itoa(10_000 + r.IntN(madeShoppers))
	platforms := [...]string{"web", "mobile", "iot"}
	click := events.PageClicked{User: user, Page: "/p/" + events.Token(madeSKU(r.IntN(madeSKUs))), Platform: platforms[r.IntN(len(platforms))]}
	ev, err := events.New(loadSource, events.TypePageClicked, user, m.happened(n), click)
	ev.ID = m.key("click", n)
	ev.CorrelationID = ""
	return ev, err
}

// made sends the made-up events, each at its own time whether or not those before are answered, up to the bound of requests at once.
func (s *sender) made(ctx context.Context, m maker, inFlight int) error {
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	err := m.each(sending, func(n int) {
		group.Go(func() error { return s.placeMade(sending, m, n) })
	}, func(clicks []events.Event) {
		group.Go(func() error { return s.click(sending, clicks) })
	}, func(n int) {
		group.Go(func() error { return s.storePoison(sending, m.poisonClickMessage(s.producer, n)) })
	}, func(click *events.Event) {
		group.Go(func() error { return s.storeAgain(sending, click) })
	})
	if waitErr := group.Wait(); waitErr != nil {
		return waitErr // the reason why the making ended, if it did
	}
	return err
}

func (s *sender) placeMade(ctx context.Context, m maker, n int) error {
	accepted, err := s.place(ctx, m.key("order", n), m.order(n))
	if accepted && m.poisonOrder(n/everyTenth) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sum.PoisonMail++
	}
	return err
}

// each makes up the events when they are to be sent, and hands on orders and poison one by one and clicks in batches, those that are stored twice once more by themselves.
func (m maker) each(ctx context.Context, order func(n int), send func([]events.Event), poison func(n int), again func(*events.Event)) error {
	var clicks []events.Event
	var oldest time.Time // when the first of clicks was made up
	flush := func() {
		if len(clicks) > 0 {
			send(clicks)
			clicks = nil
		}
	}
	for n := range m.number {
		at := m.at(n)
		if len(clicks) == clickBatch || len(clicks) > 0 && at.Sub(oldest) > clickWait {
			flush()
		}
		if err := sleep(ctx, time.Until(at)); err != nil {
			return err
		}
		if m.isOrder(n) {
			order(n)
			continue
		}
		if m.poisonClick(clickNumber(n)) {
			poison(n)
			continue
		}
		click, err := m.click(n)
		if err != nil {
			return fmt.Errorf("make up click: %w", err)
		}
		if len(clicks) == 0 {
			oldest = at
		}
		clicks = append(clicks, click)
		if crosses(clickNumber(n), m.twice) {
			again(&click)
		}
	}
	flush()
	return nil
}
