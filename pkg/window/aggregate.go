package window

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Aggregate says how the events of a window become a value. Those of this package are [Count], [Sum], [Min], [Max], [Mean] and [Top]; a program
// may bring its own.
type Aggregate interface {
	// Name stands in snapshots, with all that changes the meaning: "top(10)". A snapshot is not restored under another name.
	Name() string
	// New returns an empty accumulator.
	New() Accumulator
}

// Accumulator is the value of one key in one window, or in a part of one, while it is gathered. What comes out may depend on what was put in, but not on
// the order: the engine adds events as they come, and puts parts together as windows need them.
type Accumulator interface {
	// Add takes an event: its [Event.Parts], or the one part that [Event.Item] and [Event.Value] are. They are the caller's, to be read only, and so are their
	// texts, which may be pieces of something large.
	Add(event []Part)
	// Merge adds what another accumulator of the same aggregate has, which stays as it is.
	Merge(other Accumulator)
	// Value is what there is so far. It is not asked before the first event.
	Value() Value
	// Append appends the content to b, for a snapshot. Equal contents give equal bytes.
	Append(b []byte) []byte
	// Restore takes the content over that Append wrote.
	Restore(b []byte) error
}

// Value is what an aggregate says about the events of a window.
type Value struct {
	Number int64  // a number beyond int64 is given as the nearest
	Top    []Rank // of [Top] only: the items with the largest sums, the largest first
}

// Rank is one item of [Top].
type Rank struct {
	Item string
	Sum  int64
}

// Equal says whether two values are the same.
func (v Value) Equal(o Value) bool {
	if v.Number != o.Number || len(v.Top) != len(o.Top) {
		return false
	}
	for i := range v.Top {
		if v.Top[i] != o.Top[i] {
			return false
		}
	}
	return true
}

// Count is how many events there are.
func Count() Aggregate { return simple{"count", func() Accumulator { return new(count) }} }

// Sum is the sum of [Event.Value]. It and those below take each of [Event.Parts] where an event has them.
func Sum() Aggregate { return simple{"sum", func() Accumulator { return new(sum) }} }

// Min is the smallest [Event.Value].
func Min() Aggregate { return simple{"min", func() Accumulator { return &extreme{smallest: true} }} }

// Max is the largest [Event.Value].
func Max() Aggregate { return simple{"max", func() Accumulator { return new(extreme) }} }

// Mean is the mean of [Event.Value], rounded to the nearest whole number, halves away from zero. Values are counted in their smallest unit, such as
// pence or milliseconds; who needs more has [Sum] and [Result.Count].
func Mean() Aggregate { return simple{"mean", func() Accumulator { return new(mean) }} }

// Top adds [Event.Value] up by [Event.Item] and gives the k items with the largest sums; of equal sums the smaller item comes first. Value.Number is
// the sum over all items. It counts exactly, so it holds every item of a window, not only k.
func Top(k int) Aggregate { return top{k} }

type simple struct {
	name string
	make func() Accumulator
}

func (a simple) Name() string     { return a.name }
func (a simple) New() Accumulator { return a.make() }

var errAccumulator = errors.New("not the content of this accumulator")

type count struct{ n int64 }

func (c *count) Add([]Part)              { c.n++ }
func (c *count) Merge(other Accumulator) { c.n += other.(*count).n } //nolint:errcheck // of the same aggregate
func (c *count) Value() Value            { return Value{Number: c.n} }
func (c *count) Append(b []byte) []byte  { return binary.AppendVarint(b, c.n) }

func (c *count) Restore(b []byte) error {
	r := reader{rest: b}
	c.n = r.varint()
	return r.done(errAccumulator)
}

type sum struct{ total wide }

func (s *sum) Add(event []Part) {
	for i := range event {
		s.total.add(event[i].Value)
	}
}

func (s *sum) Merge(other Accumulator) { s.total.merge(other.(*sum).total) } //nolint:errcheck // of the same aggregate
func (s *sum) Value() Value            { return Value{Number: s.total.int64()} }
func (s *sum) Append(b []byte) []byte  { return s.total.append(b) }

func (s *sum) Restore(b []byte) error {
	r := reader{rest: b}
	s.total = r.wide()
	return r.done(errAccumulator)
}

// extreme is the largest value, or the smallest.
type extreme struct {
	v        int64
	smallest bool
	any      bool
}

func (e *extreme) Add(event []Part) {
	for i := range event {
		e.add(event[i].Value)
	}
}

func (e *extreme) add(v int64) {
	if !e.any || e.smallest && v < e.v || !e.smallest && v > e.v {
		e.v, e.any = v, true
	}
}

func (e *extreme) Merge(other Accumulator) {
	if o := other.(*extreme); o.any { //nolint:errcheck // of the same aggregate
		e.add(o.v)
	}
}

func (e *extreme) Value() Value           { return Value{Number: e.v} }
func (e *extreme) Append(b []byte) []byte { return binary.AppendVarint(b, e.v) }

func (e *extreme) Restore(b []byte) error {
	r := reader{rest: b}
	e.v, e.any = r.varint(), true
	return r.done(errAccumulator)
}

type mean struct {
	total wide
	n     int64
}

func (m *mean) Add(event []Part) {
	for i := range event {
		m.total.add(event[i].Value)
	}
	m.n += int64(len(event))
}

func (m *mean) Merge(other Accumulator) {
	o := other.(*mean) //nolint:errcheck // of the same aggregate
	m.total.merge(o.total)
	m.n += o.n
}

func (m *mean) Value() Value           { return Value{Number: m.total.mean(m.n)} }
func (m *mean) Append(b []byte) []byte { return binary.AppendVarint(m.total.append(b), m.n) }

func (m *mean) Restore(b []byte) error {
	r := reader{rest: b}
	m.total, m.n = r.wide(), r.varint()
	if m.n <= 0 {
		return errAccumulator
	}
	return r.done(errAccumulator)
}

func (s *wide) append(b []byte) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, s.hi), s.lo)
}

func (r *reader) wide() wide { return wide{hi: r.varint(), lo: r.uvarint()} }

type top struct{ k int }

func (t top) Name() string     { return fmt.Sprintf("top(%d)", t.k) }
func (t top) New() Accumulator { return &ranking{k: t.k, items: make(map[string]wide)} }

// Validate is called by [Config.Validate].
func (t top) Validate() error {
	if t.k < 1 {
		return fmt.Errorf("must rank 1 item or more, is %s", t.Name())
	}
	return nil
}
