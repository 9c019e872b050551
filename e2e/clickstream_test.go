package e2e_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/e2e/batch"
)

// clickstream stores clicks beside a load. It is a plain client: it knows subjects, headers and bytes, and sets no message id, so the broker stores whatever it is
// given. One click of a hundred it is given twice.
type clickstream struct {
	js      jetstream.JetStream
	mu      sync.Mutex
	waiting []click // in the order of sending
	reached time.Time
	err     error
}

type click struct {
	batch.Fact
	id  string
	due time.Time
}

// clicksOf makes clicks of the customers of orders, around the times of their orders, in the order in which they arrive: delayed as much as the orders are. The second
// copy of a click takes a way of its own.
func clicksOf(orders []batch.Fact, n int, seed uint64) (facts []batch.Fact, arriving []click) {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible on purpose
	delay := func() time.Duration {
		seconds := 0.2 * random.ExpFloat64()
		if share := random.Float64(); share > 0.999 {
			seconds = 60 * math.Pow(1-random.Float64(), -1/1.3)
		} else if share > 0.95 {
			seconds = 5 * math.Exp(random.NormFloat64())
		}
		return time.Duration(min(seconds, 86400) * float64(time.Hour))
	}
	for i := range n {
		order := orders[random.IntN(len(orders))]
		c := click{id: fmt.Sprintf("click-%d", i), Fact: batch.Fact{
			At: order.At.Add(time.Duration(random.Int64N(int64(2*time.Hour))) - time.Hour).Truncate(time.Millisecond), Who: order.Who, Page: fmt.Sprintf("/p/%d", random.IntN(20)),
		}}
		if random.IntN(4) == 0 || strings.HasPrefix(c.Who, batch.Guest) {
			c.Who = fmt.Sprintf("visitor-%d", random.IntN(50))
		}
		facts = append(facts, c.Fact)
		c.due = c.At.Add(delay())
		arriving = append(arriving, c)
		if i%100 == 0 {
			c.due = c.due.Add(delay())
			arriving = append(arriving, c)
		}
	}
	slices.SortStableFunc(arriving, func(a, b click) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.id, b.id)) })
	return facts, arriving
}

// beside begins to store clicks as the orders' time goes on.
func beside(t *testing.T, u *up, arriving []click) *clickstream {
	t.Helper()
	_, js := connect(t, u, "producer")
	nc, _ := connect(t, u, "operator")
	s := &clickstream{js: js, waiting: arriving}
	_, err := nc.Subscribe("orders.*.*", func(m *nats.Msg) {
		at, err := time.Parse(time.RFC3339Nano, m.Header.Get("ce-time"))
		if err == nil && m.Header.Get("ce-type") == "shop.order.placed.v1" {
			s.until(at)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *clickstream) until(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.Before(s.reached) {
		return
	}
	s.reached = at
	for len(s.waiting) > 0 && !s.waiting[0].due.After(at) && s.err == nil {
		c := s.waiting[0]
		s.waiting = s.waiting[1:]
		m := nats.NewMsg("clicks." + c.Who)
		for name, value := range map[string]string{
			"ce-specversion": "1.0", "ce-id": c.id, "ce-source": "/plain", "ce-type": "shop.page.clicked.v1", "ce-time": c.At.Format(time.RFC3339Nano),
			"content-type": "application/json",
		} {
			m.Header.Set(name, value)
		}
		m.Data = fmt.Appendf(nil, `{"user":%q,"page":%q,"platform":"web"}`, c.Who, c.Page)
		_, s.err = s.js.PublishMsgAsync(m)
	}
}

// finish stores the rest, and returns when all are stored.
func (s *clickstream) finish(t *testing.T) {
	t.Helper()
	s.until(time.Now())
	if s.err != nil {
		t.Fatal(s.err)
	}
	select {
	case <-s.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the clicks are not stored")
	}
}
