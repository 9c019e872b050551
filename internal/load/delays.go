package load

import (
	"math"
	"math/rand/v2"
	"time"
)

// delays says how much later than it happened an event is sent. It is the way of events from phones and shops to a log: most are there at once, some
// after a retry, a few after hours without a network. A delay follows from the seed and the event's number alone.
type delays struct {
	seed    uint64
	stretch float64 // how many times longer all delays are; 0: there are none
}

// The mixture. Of all delays 95 % are exponential, 4.9 % lognormal, 0.1 % Pareto; all in seconds, before they are stretched. With it 1.3 % of the
// events are more than ten seconds out of order, and 0.12 % more than a minute.
const (
	shareUsual, shareSlow = 0.95, 0.049 // the rest is lost for a while

	usualMean   = 0.2
	slowMedian  = 5
	slowSigma   = 1 // of the delay's natural logarithm
	lostLeast   = 60
	lostAlpha   = 1.3
	longestWait = 24 * 60 * 60 // one delay in twelve million would be longer
)

// Stretches: a file has one invoice in some minutes, so its delays are an hour where a live shop's are a second.
const (
	fileStretch = 3600
	madeStretch = 1
	maxStretch  = 100_000
)

const delaySeed = 0x6465_6c61_7973 // so that delays don't follow what is made up from the same seed

// of is the delay of event n.
func (d delays) of(n int) time.Duration {
	if d.stretch == 0 {
		return 0
	}
	random := rand.New(rand.NewPCG(d.seed^delaySeed, uint64(n))) //nolint:gosec // made-up input, not a secret; n is not negative
	var seconds float64
	switch share := random.Float64(); {
	case share < shareUsual:
		seconds = usualMean * random.ExpFloat64()
	case share < shareUsual+shareSlow:
		seconds = slowMedian * math.Exp(slowSigma*random.NormFloat64())
	default:
		seconds = lostLeast * math.Pow(1-random.Float64(), -1/lostAlpha)
	}
	return time.Duration(min(seconds, longestWait) * d.stretch * float64(time.Second))
}
