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

// Config says what an [Engine] computes. All durations are whole milliseconds. The zero value of a field is its default.
type Config struct {
	// Windows is how event time is cut. Required.
	Windows Windows

	// Aggregate is what is computed for each key in each window; [Count] unless told otherwise.
	Aggregate Aggregate

	// Bound is how far the watermark trails the largest event time: how much disorder is waited for. A result comes out about that much
	// after its window's end. 0 or more; 0 suits a log in order of event time.
	Bound time.Duration

	// Bounds are the partitions' own bounds, where they differ; one for each. Bound is then unset.
	Bounds []time.Duration

	// Partitions is how many partitions of the log the query reads; 1 unless told otherwise. Each has a watermark, and the query's is
	// the least: a partition that lags is waited for, and at first every one.
	Partitions int

	// Lateness is how long a window is kept behind the watermark after it has fired. Until then an event for it still counts, and the new value comes
	// out at once as the next revision. 0: a result is final when it comes out.
	Lateness time.Duration

	// Idle is how long a partition may be silent before it is no longer waited for, in store time. 0: for ever, so with more than one
	// partition a silent one stops the query. See [Config.Warnings].
	Idle time.Duration

	// NoIdleAdvance keeps the watermark where it is while all partitions are idle. Otherwise it then follows the store time, Idle and the largest bound behind,
	// so that the last windows of a quiet log fire. Old events that are loaded into a quiet log are late then, which is right
	// for live queries and wrong for a query that waits for history.
	NoIdleAdvance bool

	// MaxFuture is how far ahead of its store time an event may be dated, that much included. 0 means [DefaultMaxFuture]; [Unlimited] none.
	MaxFuture time.Duration

	// Manual leaves the watermark to [Engine.Advance] and [Engine.End]: events and ticks do not move it. For a batch, or for a caller that knows better.
	Manual bool
}

// FieldError is one rule that a [Config] breaks. [Config.Validate] joins them; errors.As finds the first.
type FieldError struct {
	Field string // such as "Bound"
	Rule  string // such as "must be 0 or more, is -1s"
}

func (e *FieldError) Error() string { return "window config: " + e.Field + ": " + e.Rule }

// MaxPartitions is how many partitions a query may read.
const MaxPartitions = 1 << 16

// Validate reports every rule that the configuration breaks, joined, each as a [FieldError].
func (c Config) Validate() error {
	var r refusals
	c.Windows.validate(&r)
	if v, ok := c.Aggregate.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			r.refuse("Aggregate", "%w", err)
		}
	}
	r.span("Bound", c.Bound)
	if c.Partitions < 0 || c.Partitions > MaxPartitions {
		r.refuse("Partitions", "must be 0 to %d, is %d", MaxPartitions, c.Partitions)
	}
	if len(c.Bounds) > 0 {
		if len(c.Bounds) != max(c.Partitions, 1) {
			r.refuse("Bounds", "must be one for each of %d partitions, are %d", max(c.Partitions, 1), len(c.Bounds))
		}
		if c.Bound != 0 {
			r.refuse("Bound", "must not be set beside Bounds, is %s", c.Bound)
		}
	}
	for i, b := range c.Bounds {
		r.span(fmt.Sprintf("Bounds[%d]", i), b)
	}
	r.span("Lateness", c.Lateness)
	r.span("Idle", c.Idle)
	if c.MaxFuture != Unlimited {
		r.span("MaxFuture", c.MaxFuture)
	}
	return errors.Join(r...)
}

// Warnings are what is allowed and probably not meant, in sentences.
func (c Config) Warnings() []string {
	var all []string
	if c.Idle == 0 && c.Partitions > 1 && !c.Manual {
		all = append(all, fmt.Sprintf("Idle is 0: if one of the %d partitions falls silent, no window fires any more", c.Partitions))
	}
	if c.MaxFuture == Unlimited {
		all = append(all, "MaxFuture is Unlimited: windows of events that are dated ahead stay in memory until their time comes")
	}
	return all
}

type refusals []error

func (r *refusals) refuse(field, rule string, args ...any) {
	*r = append(*r, &FieldError{Field: field, Rule: fmt.Errorf(rule, args...).Error()})
}

// span is for a duration that may be zero.
func (r *refusals) span(field string, d time.Duration) {
	if d < 0 {
		r.refuse(field, "must be 0 or more, is %s", d)
		return
	}
	r.whole(field, d)
}

// length is for a duration that may not.
func (r *refusals) length(field string, d time.Duration) {
	if d <= 0 {
		r.refuse(field, "must be more than 0, is %s", d)
		return
	}
	r.whole(field, d)
}

func (r *refusals) whole(field string, d time.Duration) {
	if d%time.Millisecond != 0 {
		r.refuse(field, "must be whole milliseconds, is %s", d)
	}
}

func (w Windows) validate(r *refusals) {
	switch w.kind {
	case tumbling:
		r.length("Windows.Size", w.size)
		w.validateOffset(r, "size", w.size)
	case hopping:
		r.length("Windows.Size", w.size)
		r.length("Windows.Slide", w.slide)
		if w.slide > w.size && w.size > 0 {
			r.refuse("Windows.Slide", "must not be more than the size %s, is %s: times between windows would be in none", w.size, w.slide)
		}
		w.validateOffset(r, "slide", w.slide)
	case session:
		r.length("Windows.Gap", w.size)
	case calendar:
		if w.unit < Day || w.unit > Month {
			r.refuse("Windows.Unit", "must be Day, Week or Month, is %s", w.unit)
		}
		if w.err != nil {
			r.refuse("Windows.Zone", "%w", w.err)
		}
	default:
		r.refuse("Windows", "required: make them with Tumbling, Hopping, Session or Calendar")
	}
}

func (w Windows) validateOffset(r *refusals, name string, limit time.Duration) {
	r.whole("Windows.Offset", w.offset)
	if limit > 0 && (w.offset >= limit || w.offset <= -limit) {
		r.refuse("Windows.Offset", "must be nearer to 0 than the %s %s, is %s", name, limit, w.offset)
	}
}

// settings is [Config] in milliseconds, with its defaults.
type settings struct {
	cut       cut
	aggregate Aggregate
	bounds    []int64 // one for each partition
	bound     int64   // the largest
	lateness  int64
	idle      int64 // 0: off
	maxFuture int64 // less than 0: off
	advance   bool  // while all partitions are idle
	manual    bool
}

func (c Config) settings() settings {
	s := settings{
		cut: c.Windows.cut(), aggregate: c.aggregate(), lateness: c.Lateness.Milliseconds(), idle: c.Idle.Milliseconds(),
		advance: !c.NoIdleAdvance, manual: c.Manual,
	}
	for i := range max(c.Partitions, 1) {
		b := c.Bound
		if len(c.Bounds) > 0 {
			b = c.Bounds[i]
		}
		s.bounds = append(s.bounds, b.Milliseconds())
		s.bound = max(s.bound, b.Milliseconds())
	}
	switch c.MaxFuture {
	case Unlimited:
		s.maxFuture = -1
	case 0:
		s.maxFuture = DefaultMaxFuture.Milliseconds()
	default:
		s.maxFuture = c.MaxFuture.Milliseconds()
	}
	return s
}

func (c Config) aggregate() Aggregate {
	if c.Aggregate == nil {
		return Count()
	}
	return c.Aggregate
}
