package window

import (
	"errors"
	"fmt"
	"time"
)

// DefaultMaxFuture is how far ahead of its store time an event may be dated where [Config.MaxFuture] is zero.
const DefaultMaxFuture = 5 * time.Minute

// Unlimited switches the guard of [Config.MaxFuture] off. Windows that lie ahead then stay open, and in memory, until their time comes.
const Unlimited time.Duration = -1

// Aggregate is how the events of a window become one number.
type Aggregate uint8

// The aggregates.
const (
	Count Aggregate = iota // how many events
	Sum                    // the sum of [Event.Value]; a sum that leaves int64 stays at the nearest bound
)

func (a Aggregate) String() string {
	switch a {
	case Count:
		return "count"
	case Sum:
		return "sum"
	}
	return fmt.Sprintf("Aggregate(%d)", uint8(a))
}

// Config says what an [Engine] computes. All durations are whole milliseconds.
type Config struct {
	// Windows is how event time is cut. Required.
	Windows Windows

	// Aggregate is what is computed for each key in each window; [Count] unless told otherwise.
	Aggregate Aggregate

	// Bound is how far the watermark trails the largest event time: how much disorder is waited for. A result comes out about that much
	// after its window's end; events further behind than that may be late. 0 or more; 0 suits a log in order of event time.
	Bound time.Duration

	// MaxFuture is how far ahead of its store time an event may be dated, that much included. 0 means [DefaultMaxFuture]; [Unlimited] none.
	MaxFuture time.Duration
}

// FieldError is one rule that a [Config] breaks. [Config.Validate] joins them; errors.As finds the first.
type FieldError struct {
	Field string // such as "Bound"
	Rule  string // such as "must be 0 or more, is -1s"
}

func (e *FieldError) Error() string { return "window config: " + e.Field + ": " + e.Rule }

// Validate reports every rule that the configuration breaks, joined, each as a [FieldError].
func (c Config) Validate() error {
	var errs []error
	refuse := func(field, rule string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Rule: fmt.Sprintf(rule, args...)})
	}
	whole := func(field string, d time.Duration) {
		if d%time.Millisecond != 0 {
			refuse(field, "must be whole milliseconds, is %s", d)
		}
	}
	switch w := c.Windows; {
	case w.kind == unset:
		refuse("Windows", "required: make one with Tumbling")
	case w.size <= 0:
		refuse("Windows.Size", "must be more than 0, is %s", w.size)
	default:
		whole("Windows.Size", w.size)
		whole("Windows.Offset", w.offset)
		if w.offset >= w.size || w.offset <= -w.size {
			refuse("Windows.Offset", "must be nearer to 0 than the size %s, is %s", w.size, w.offset)
		}
	}
	if c.Aggregate > Sum {
		refuse("Aggregate", "must be Count or Sum, is %s", c.Aggregate)
	}
	if c.Bound < 0 {
		refuse("Bound", "must be 0 or more, is %s", c.Bound)
	} else {
		whole("Bound", c.Bound)
	}
	switch {
	case c.MaxFuture == Unlimited:
	case c.MaxFuture < 0:
		refuse("MaxFuture", "must be 0 or more, or Unlimited, is %s", c.MaxFuture)
	default:
		whole("MaxFuture", c.MaxFuture)
	}
	return errors.Join(errs...)
}
