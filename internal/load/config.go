package load

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/natsconn"
)

// ErrUsage is wrapped by every error that the caller's words or files are to blame for: a missing column, an unreadable file, flags that
// contradict each other. A program ends with status 2 on it.
var ErrUsage = errors.New("wrong use")

const (
	defaultInFlight = 64
	maxInFlight     = 1024
	madeStock       = 1000
	minSpeed        = 0.01
)

// Config says what to load and how. With CSV it is a file of invoices, else made-up orders and clicks.
type Config struct {
	API      string // base address of the API; required
	Token    client.Token
	Access   natsconn.Access // who the load is at NATS, which poison and clicks that are stored twice go to; empty: what the API says
	Stock    int64           // units of every SKU that are received first, once for all runs; 0: none, but 1,000 for made-up input
	Wait     bool            // go on until every order of this input has ended
	JSON     bool            // one JSON object at the end instead of a table
	InFlight int             // requests at once, 1 to 1,024; default 64, but 1 for late invoices at full speed: 64 of them are a day, so their order would be that of chance

	// NATS is where poison and clicks that are stored twice go to, past the API; empty: what the API says.
	NATS string

	// Start is the moment that event times are counted from where they are moved or made up, default now. It is a part of every idempotency
	// key then, so the same Start repeats a run, and orders that are there already count as duplicates.
	Start time.Time

	CSV   string // the file, plain or gzip
	Speed string // "max" (default) keeps the file's times and sends as fast as it is answered; a number is how many times faster than the file
	Limit int    // most invoices; 0: all

	Rate float64       // made-up events a second, one order to nine clicks
	For  time.Duration // how long to make them up
	Seed uint64        // of the made-up input, and of delays

	Poison float64 // share of the made-up events that can't be processed, 0 to 0.2: see [PoisonSKU]
	Twice  float64 // share of the made-up clicks that are stored twice under one id, 0 to 1

	// Late delays what is sent, by random times that follow from Seed. A file keeps its event times, and invoices are sent in the order of event time and delay; with a
	// speed also so much later. Made-up events are sent when they are due, and dated so much earlier.
	Late        bool
	LateStretch float64 // how many times longer the delays are; default 3,600 for a file, 1 for made-up input
}

// Validate reports every error of the configuration, joined. Each wraps [ErrUsage].
func (c Config) Validate() error {
	var errs []error
	must := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrUsage}, args...)...))
		}
	}
	_, err := ParseSpeed(c.Speed)
	must(err == nil, "speed: is %q, must be max or a number of %g or more", c.Speed, minSpeed)
	must(c.Stock >= 0, "stock: is %d, must be 0 or more", c.Stock)
	must(c.Limit >= 0, "limit: is %d, must be 0 or more", c.Limit)
	must(c.InFlight >= 0 && c.InFlight <= maxInFlight, "in flight: is %d, must be 1 to %d", c.InFlight, maxInFlight)
	must(c.LateStretch == 0 || c.Late, "late stretch: is of late input only")
	must(c.LateStretch == 0 || c.LateStretch > 0 && c.LateStretch <= maxStretch, "late stretch: is %g, must be above 0 and at most %d", c.LateStretch, maxStretch)
	if c.CSV != "" {
		must(c.Twice == 0, "twice: is of made-up input, a file has no clicks")
		must(c.Rate == 0 && c.For == 0, "rate, for: are of made-up input, not of a file")
		must(c.Poison == 0, "poison: is of made-up input, not of a file")
		return errors.Join(errs...)
	}
	must(c.Speed == "" || c.Speed == "max", "speed: is of a file; made-up input has a rate")
	must(c.Limit == 0, "limit: is of a file; made-up input has a rate and a time")
	must(c.Rate > 0 && c.Rate <= 1e6, "rate: is %g, must be above 0 and at most 1,000,000 events a second (or name a file to load)", c.Rate)
	must(c.Poison >= 0 && c.Poison <= maxPoison, "poison: is %g, must be 0 to %g", c.Poison, maxPoison)
	must(c.Twice >= 0 && c.Twice <= 1, "twice: is %g, must be 0 to 1", c.Twice)
	must(c.For > 0, "for: is %s, must be a time such as 30s", c.For)
	return errors.Join(errs...)
}

// ParseSpeed reads how many times faster than the file is sent; 0 stands for "max", as fast as it is answered.
func ParseSpeed(s string) (float64, error) {
	if s == "" || s == "max" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || v < minSpeed || v > 1e9 {
		return 0, fmt.Errorf("%w: speed: %q", ErrUsage, s)
	}
	return v, nil
}

func (c Config) withDefaults() Config {
	if c.InFlight == 0 {
		c.InFlight = defaultInFlight
		if speed, err := ParseSpeed(c.Speed); c.Late && c.CSV != "" && speed == 0 && err == nil {
			c.InFlight = 1
		}
	}
	if c.Start.IsZero() {
		c.Start = time.Now().Truncate(time.Second) // a second is what a person can type again; cut, so that nothing is ahead
	}
	c.Start = c.Start.UTC()
	if c.CSV == "" && c.Stock == 0 {
		c.Stock = madeStock
	}
	if c.Late && c.LateStretch == 0 {
		c.LateStretch = madeStretch
		if c.CSV != "" {
			c.LateStretch = fileStretch
		}
	}
	return c
}

// delays are those of the run. The configuration must have its defaults.
func (c Config) delays() delays { return delays{seed: c.Seed, stretch: c.LateStretch} }

// run is the part of an idempotency key that tells one run from another.
func (c Config) run() string { return c.Start.Format(time.RFC3339Nano) }
