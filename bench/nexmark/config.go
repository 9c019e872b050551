package nexmark

import (
	"errors"
	"fmt"
	"time"
)

// Config is a workload. Two with the same values are the same to the last byte.
type Config struct {
	Events     int           // that are made; some are sent twice, and each partition that is not silent has one more at the end
	PerSecond  int           // of event time; how fast they are sent is another matter
	Seed       uint64        // of all that is random
	Partitions int           // of the stream; the last one falls silent
	Silence    time.Duration // how long the silent partition is waited for
}

// Default is the workload of the stored digests.
func Default(events int) Config {
	return Config{Events: events, PerSecond: 2_000, Seed: 1, Partitions: 4, Silence: 500 * time.Millisecond}
}

// Validate reports every rule that the configuration breaks, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Events < 1000 || c.Events > 100_000_000 {
		errs = append(errs, fmt.Errorf("nexmark: events: must be 1000 to 100000000, is %d", c.Events))
	}
	if c.PerSecond < 1 {
		errs = append(errs, fmt.Errorf("nexmark: per second: must be 1 or more, is %d", c.PerSecond))
	}
	if c.Partitions < 2 {
		errs = append(errs, fmt.Errorf("nexmark: partitions: must be 2 or more, one of which falls silent, is %d", c.Partitions))
	}
	if c.Silence <= 0 {
		errs = append(errs, fmt.Errorf("nexmark: silence: must be more than 0, is %s", c.Silence))
	}
	return errors.Join(errs...)
}

// base is the time of the first event: 2015-07-15T00:00:00Z.
const base = 1_436_918_400_000

// at is the event time of event number n, in epoch milliseconds.
func (c Config) at(n int64) int64 { return base + n*1000/int64(c.PerSecond) }

// dice are random numbers that follow from a seed and a number alone: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
type dice uint64

func (c Config) dice(n int64, what uint64) dice {
	d := dice(c.Seed*0x9e3779b97f4a7c15 ^ what)
	return dice(d.next() ^ uint64(n)*0xbf58476d1ce4e5b9) //nolint:gosec // n is not negative
}

func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is 0 to n-1.
func (d *dice) below(n int64) int64 { return int64(d.next() % uint64(n)) } //nolint:gosec // n is more than 0, the remainder less

// fraction is in [0, 1).
func (d *dice) fraction() float64 { return float64(d.next()>>11) / (1 << 53) }
