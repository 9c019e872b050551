package nexmark

import (
	"slices"
	"strconv"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// Query is one of the questions.
type Query struct {
	Name      string
	Kinds     []Kind // that it takes
	StoreTime bool   // it goes by when the log stored an event
	Windows   window.Windows
	Aggregate window.Aggregate
	// Read says what an event is grouped by, and what it adds.
	Read func(e *Event) (key, item string, value int64)
	// Keep, where it is set, chooses the results that come out.
	Keep func(*window.Result) bool

	size, slide, gap int64                       // the windows, for the oracle
	value            func(events []*Event) Value // likewise what they amount to
}

// Value is what a window amounts to.
type Value struct {
	Number int64
	Item   string // of q5: the auction
}

// What holds for all queries. Windows come out four seconds behind the largest event time, as in Nexmark's SQL, and take events for six seconds more.
const (
	Bound    = 4 * time.Second
	Lateness = 6 * time.Second
)

const (
	span = 10 * time.Second
	hop  = 2 * time.Second
)

// Queries are all of them.
func Queries() []Query {
	bidsOnly := []Kind{Bid}
	tumbling := window.Tumbling(span, 0)
	millis := span.Milliseconds()
	return []Query{
		{
			Name: "q5", Kinds: bidsOnly, Windows: window.Hopping(span, hop, 0), Aggregate: window.Top(1),
			Read: func(e *Event) (string, string, int64) { return "", decimal(e.Auction), 1 },
			size: millis, slide: hop.Milliseconds(), value: hottest,
		},
		{
			Name: "q7", Kinds: bidsOnly, Windows: tumbling, Aggregate: window.Max(),
			Read: func(e *Event) (string, string, int64) { return "", "", e.Price },
			size: millis, slide: millis, value: highest,
		},
		{
			Name: "q8", Kinds: []Kind{Person, Auction}, Windows: tumbling, Aggregate: join{},
			Read: func(e *Event) (string, string, int64) { return decimal(e.Person), types[e.Kind], 1 },
			Keep: func(r *window.Result) bool { return r.Value.Number > 0 },
			size: millis, slide: millis, value: joined,
		},
		{
			Name: "q11", Kinds: bidsOnly, Windows: window.Session(span), Aggregate: window.Count(),
			Read: func(e *Event) (string, string, int64) { return decimal(e.Person), "", 1 },
			gap:  millis, value: counted,
		},
		{
			Name: "q12", Kinds: bidsOnly, StoreTime: true, Windows: tumbling, Aggregate: window.Count(),
			Read: func(e *Event) (string, string, int64) { return decimal(e.Person), "", 1 },
			size: millis, slide: millis, value: counted,
		},
	}
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// Takes says whether the query takes events of a kind.
func (q *Query) Takes(k Kind) bool { return slices.Contains(q.Kinds, k) }

// Config is how the engine runs the query over a log of the workload. Time goes on with events only: what the clock of a run does must not show in the results.
func (q *Query) Config(c Config) window.Config {
	return window.Config{
		Windows: q.Windows, Aggregate: q.Aggregate, Partitions: c.Partitions, Bound: Bound, Lateness: Lateness, Idle: c.Silence, NoIdleAdvance: true,
	}
}

// join counts the auctions of a person who has signed up in the same window: of others it is 0. An item is the type of an event.
type join struct{}

func (join) Name() string { return "nexmark-q8" }

func (join) New() window.Accumulator { return &joining{window.Top(2).New()} }

// joining counts people and auctions as a ranking of two items.
type joining struct{ window.Accumulator }

func (j *joining) Merge(other window.Accumulator) { j.Accumulator.Merge(other.(*joining).Accumulator) } //nolint:errcheck // of the same aggregate

func (j *joining) Value() window.Value {
	var opened int64
	signedUp := false
	for _, r := range j.Accumulator.Value().Top {
		switch r.Item {
		case types[Person]:
			signedUp = true
		case types[Auction]:
			opened = r.Sum
		}
	}
	if !signedUp {
		opened = 0
	}
	return window.Value{Number: opened}
}
