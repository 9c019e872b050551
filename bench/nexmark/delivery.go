package nexmark

import (
	"cmp"
	"math"
	"slices"
)

// Delivery is one event as it is sent. In the order of the log, so its place in it is when it is due.
type Delivery struct {
	Number    int64 // of the event
	Copy      bool  // it was sent before
	Partition int
	Time      int64 // that the event bears: its own, or a wrong one
}

// What is added to Nexmark. The delays are those of `tidemark load --late`: exponential, lognormal and Pareto, in milliseconds.
const (
	calmShare     = 10 // one event in so many comes before the first that is delayed
	silenceShare  = 100
	copies        = 100 // one event in so many is sent twice
	longestCopy   = 2000
	misdated      = 100_000 // one event in so many is dated
	misdatedBy    = 100 * 365 * 24 * 60 * 60 * 1000
	closing       = 60 * 60 * 1000 // how far behind the others the last events are: so far that all windows end
	shareUsual    = 0.95
	shareSlow     = 0.049
	usualMean     = 200.
	slowMedian    = 5000.
	lostLeast     = 60_000.
	lostAlpha     = 1.3
	longestDelay  = 24 * 60 * 60 * 1000.
	microsPerMill = 1000
)

// Log is all that is sent, in its order.
func (c Config) Log() []Delivery {
	type timed struct {
		Delivery
		at int64 // when it is sent, microseconds of event time
	}
	all := make([]timed, 0, c.Events+c.Events/copies*2)
	calm, silence := int64(c.Events/calmShare), int64(c.Events/silenceShare)
	last := c.Partitions - 1
	for i := range int64(c.Events) {
		n := number(i)
		t := timed{Delivery: Delivery{Number: n, Time: c.at(n)}, at: i * 1_000_000 / int64(c.PerSecond)}
		if i >= calm {
			t.at += int64(c.delay(n) * microsPerMill)
		}
		d := c.dice(n, forPartition)
		if t.Partition = int(d.below(int64(c.Partitions))); t.Partition == last && i >= silence {
			t.Partition = int(n % int64(last))
		}
		if d.below(misdated) == 0 && i >= calm {
			t.Time += misdatedBy
		}
		all = append(all, t)
		if again := c.dice(n, forCopy); again.below(copies) == 0 && t.Partition != last {
			t.Copy = true
			t.at += 1 + again.below(longestCopy*microsPerMill)
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b timed) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.Number, b.Number)) })
	log := make([]Delivery, len(all), len(all)+2*last)
	for i := range all {
		log[i] = all[i].Delivery
	}
	return append(log, c.closers()...)
}

// closers are the last events, an auction and a bid in each partition that is not silent: whatever a query takes, they end all its windows.
func (c Config) closers() []Delivery {
	var log []Delivery
	for p := range c.Partitions - 1 {
		next := (int64(c.Events)/epoch + 1 + int64(p)) * epoch
		for _, n := range []int64{next + people, next + people + auctions} {
			log = append(log, Delivery{Number: n, Partition: p, Time: c.at(int64(c.Events)) + closing})
		}
	}
	return log
}

// Closing is the place in the log from which on events are there to end all windows.
func (c Config) Closing(log []Delivery) int { return len(log) - len(c.closers()) }

// delay is how much later than it happened event n is sent, in milliseconds.
func (c Config) delay(n int64) float64 {
	d := c.dice(n, forDelay)
	share, u := d.fraction(), 1-d.fraction()
	switch {
	case share < shareUsual:
		return -usualMean * math.Log(u)
	case share < shareUsual+shareSlow:
		normal := math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*d.fraction()) // Box and Muller
		return min(slowMedian*math.Exp(normal), longestDelay)
	}
	return min(lostLeast*math.Pow(u, -1/lostAlpha), longestDelay)
}
