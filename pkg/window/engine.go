package window

import (
	"crypto/sha256"
	"maps"
	"math"
	"slices"
)

// Event is what an [Engine] needs to know of one event.
type Event struct {
	// ID is the producer's, unique among the query's events. A second event with the id of one that is in an open window is a
	// duplicate. Required: without it nothing would keep a repeated event from counting twice.
	ID string
	// Key is what the query groups by; each key has windows of its own. May be empty.
	Key string
	// Time is event time, epoch milliseconds.
	Time int64
	// Stored is when the log stored the event, epoch milliseconds: the engine's only clock. A step back is ignored (the running maximum holds).
	Stored int64
	// Value is what [Sum] adds up.
	Value int64
}

// Verdict is what became of an event.
type Verdict uint8

// The verdicts. Every event has exactly one.
const (
	Counted   Verdict = iota // it is in its window
	Late                     // it is not counted: Outcome.Reason and Outcome.Missed say why
	Duplicate                // an event with its id is in an open window: nothing changes
)

func (v Verdict) String() string { return [...]string{"counted", "late", "duplicate"}[v] }

// Reason is why an event is late. The texts are part of the contract of the late stream.
type Reason string

// The reasons.
const (
	TooLate    Reason = "too_late"    // its window had fired
	FutureSkew Reason = "future_skew" // it is dated more than Config.MaxFuture ahead of its store time
	NoID       Reason = "no_id"       // it has no id
)

// Timing is when a result came out, seen from its window. The texts are part of the contract of the result stream.
type Timing string

// The timings.
const (
	OnTime Timing = "on_time" // the watermark reached the window's end
	Open   Timing = "open"    // the window has not fired: the value so far, see Engine.Open
)

// Result is the value of one key in one window.
type Result struct {
	Key string
	Window
	Count    int64 // how many events
	Value    int64 // what Config.Aggregate says
	Revision int   // 1 for the first result of a window; 0 while it is open
	Timing   Timing
}

// Outcome is what one event did.
type Outcome struct {
	Verdict Verdict
	// Reason and Missed are set where the verdict is Late: Missed are the windows that do not count the event.
	Reason Reason
	Missed []Window
	// Results are the windows that fired, in the order of end, start, key.
	Results []Result
}

// Counts says what became of all events so far: Read = Counted + Late + Duplicates.
type Counts struct{ Read, Counted, Late, Duplicates uint64 }

// Engine holds the open windows of one query. It is not safe for use by several goroutines.
type Engine struct {
	cfg              Config
	bound, maxFuture int64 // milliseconds; maxFuture < 0: off

	clock     int64 // running maximum of store times; math.MinInt64 before the first event
	maximum   int64 // largest event time that counts for the watermark; valid where started
	watermark int64 // valid where started
	started   bool  // an event was counted, so there is a watermark

	open   []*pane         // by start, which is also by end
	ids    map[id]struct{} // of all events in open windows
	cells  int             // how many cells all panes hold
	keys   int             // how many bytes their keys have
	counts Counts
}

// pane is one open window over all keys.
type pane struct {
	Window
	cells map[string]*cell
	ids   []id // so that they are forgotten with the pane
}

type cell struct{ count, sum int64 }

// id is the head of the SHA-256 of an event id. Ids come from outside: with a weaker hash a producer could make one id hide another.
type id [16]byte

func hashID(s string) id {
	var buf [128]byte // an id that fits costs no allocation
	sum := sha256.Sum256(append(buf[:0], s...))
	return id(sum[:16])
}

// New returns an engine without any window open. The error joins every rule that cfg breaks, see [Config.Validate].
func New(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, bound: cfg.Bound.Milliseconds(), clock: math.MinInt64, ids: make(map[id]struct{})}
	switch cfg.MaxFuture {
	case Unlimited:
		e.maxFuture = -1
	case 0:
		e.maxFuture = DefaultMaxFuture.Milliseconds()
	default:
		e.maxFuture = cfg.MaxFuture.Milliseconds()
	}
	return e, nil
}

// Apply takes the next event of the log and says what became of it. Whether it is late is decided by the watermark before it.
func (e *Engine) Apply(ev Event) Outcome {
	e.counts.Read++
	e.clock = max(e.clock, ev.Stored)
	if ev.ID == "" {
		return e.late(ev, NoID)
	}
	hash := hashID(ev.ID)
	if _, seen := e.ids[hash]; seen {
		e.counts.Duplicates++
		return Outcome{Verdict: Duplicate}
	}
	if e.maxFuture >= 0 && ev.Time > addSaturating(e.clock, e.maxFuture) {
		return e.late(ev, FutureSkew)
	}
	p := e.paneOf(ev.Time)
	if p == nil {
		return e.late(ev, TooLate)
	}
	e.counts.Counted++
	e.ids[hash] = struct{}{}
	p.ids = append(p.ids, hash)
	e.add(p, ev)
	e.advance(min(ev.Time, e.clock))
	return Outcome{Verdict: Counted, Results: e.fire()}
}

func (e *Engine) late(ev Event, reason Reason) Outcome {
	e.counts.Late++
	return Outcome{Verdict: Late, Reason: reason, Missed: []Window{e.cfg.Windows.Of(ev.Time)}}
}

// paneOf finds or opens the window of t. It is nil when the window has fired.
func (e *Engine) paneOf(t int64) *pane {
	i, found := slices.BinarySearchFunc(e.open, t, func(p *pane, t int64) int {
		switch {
		case p.Start > t:
			return 1
		case p.End <= t && p.End != math.MaxInt64: // the last window of all ends with the end of time included
			return -1
		}
		return 0
	})
	if found {
		return e.open[i]
	}
	w := e.cfg.Windows.Of(t)
	if e.started && e.watermark >= w.End {
		return nil
	}
	p := &pane{Window: w, cells: make(map[string]*cell)}
	e.open = slices.Insert(e.open, i, p)
	return p
}

func (e *Engine) add(p *pane, ev Event) {
	c := p.cells[ev.Key]
	if c == nil {
		c = &cell{}
		p.cells[ev.Key] = c
		e.cells++
		e.keys += len(ev.Key)
	}
	c.count++
	c.sum = addSaturating(c.sum, ev.Value)
}

// advance moves the watermark, forward only: a larger bound after a restart does not pull it back.
func (e *Engine) advance(candidate int64) {
	if !e.started {
		e.started = true
		e.maximum = candidate
		e.watermark = subSaturating(candidate, e.bound)
		return
	}
	e.maximum = max(e.maximum, candidate)
	e.watermark = max(e.watermark, subSaturating(e.maximum, e.bound))
}

// fire closes every window whose end the watermark has reached.
func (e *Engine) fire() []Result {
	var results []Result
	n := 0
	for ; n < len(e.open) && e.open[n].End <= e.watermark; n++ {
		p := e.open[n]
		results = e.results(results, p, 1, OnTime)
		for _, hash := range p.ids {
			delete(e.ids, hash)
		}
		e.cells -= len(p.cells)
		for key := range p.cells {
			e.keys -= len(key)
		}
	}
	if n > 0 {
		e.open = slices.Delete(e.open, 0, n)
	}
	return results
}

func (e *Engine) results(to []Result, p *pane, revision int, timing Timing) []Result {
	for _, key := range slices.Sorted(maps.Keys(p.cells)) {
		c := p.cells[key]
		value := c.count
		if e.cfg.Aggregate == Sum {
			value = c.sum
		}
		to = append(to, Result{Key: key, Window: p.Window, Count: c.count, Value: value, Revision: revision, Timing: timing})
	}
	return to
}

// End says that no event will come any more: the watermark moves to the end of time and every open window fires. It is for bounded
// input, such as a batch over a whole log. Every event after it is late.
func (e *Engine) End() []Result {
	e.started = true
	e.maximum, e.watermark = math.MaxInt64, math.MaxInt64
	return e.fire()
}

// Open are the windows that have not fired, with their values so far, in the order of end, start, key.
func (e *Engine) Open() []Result {
	results := make([]Result, 0, e.cells)
	for _, p := range e.open {
		results = e.results(results, p, 0, Open)
	}
	return results
}

// Watermark is W: every event with a time before it is presumed seen. ok is false before the first counted event.
func (e *Engine) Watermark() (w int64, ok bool) { return e.watermark, e.started }

// Counts says what became of all events so far.
func (e *Engine) Counts() Counts { return e.counts }

// Config is what the engine was made with.
func (e *Engine) Config() Config { return e.cfg }
