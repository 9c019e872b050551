package window

import "fmt"

// Engine holds the live windows of one query. It is not safe for use by several goroutines.
type Engine struct {
	cfg      Config
	settings settings
	line     line
	ids      memory
	aligned  *aligned  // one of the two is there
	sessions *sessions //
	single   [1]Part
	counts   [verdicts]uint64
}

// New returns an engine without any window open. The error joins every rule that cfg breaks, see [Config.Validate].
func New(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, settings: cfg.settings()}
	e.line = newLine(&e.settings)
	e.ids.line = &e.line
	if cfg.Windows.kind == session {
		e.sessions = newSessions(&e.line, &e.ids)
	} else {
		e.aligned = newAligned(&e.line, &e.ids)
	}
	return e, nil
}

// Apply takes the next event of the log and says what became of it. Whether it is late is decided by the watermark before it. It panics where the event's
// partition is none of the query's, as an index that is out of range does.
func (e *Engine) Apply(ev Event) Outcome {
	if ev.Partition < 0 || ev.Partition >= len(e.line.partitions) {
		panic(fmt.Sprintf("window: event of partition %d, the query has %d", ev.Partition, len(e.line.partitions)))
	}
	e.line.see(ev.Stored)
	var out Outcome
	out.Verdict = e.take(&ev, &out)
	e.counts[out.Verdict]++
	before := e.line.watermark
	e.line.merge()
	out.Results = e.advance(before, out.Results)
	return out
}

func (e *Engine) take(ev *Event, out *Outcome) Verdict {
	if ev.ID == "" {
		out.Missed = e.cfg.Windows.Of(ev.Time)
		return NoID
	}
	hash := hashID(ev.ID)
	slot, known := e.ids.find(hash)
	if known {
		e.line.live(ev.Partition)
		return Duplicate
	}
	if e.line.ahead(ev.Time) { // no sign of life either: a partition of which all clocks are ahead is not waited for
		out.Missed = e.cfg.Windows.Of(ev.Time)
		return FutureSkew
	}
	e.line.live(ev.Partition)
	ev.Parts = ev.parts(&e.single)
	var v Verdict
	if e.sessions != nil {
		v = e.sessions.add(ev, hash, slot, out)
	} else {
		v = e.aligned.add(ev, hash, slot, out)
	}
	if v != TooLate {
		e.line.take(ev.Partition, ev.Time)
	}
	return v
}

// Tick says that the log has come to a store time, without an event for this query: a heartbeat, or an event of another kind. It lets the query see that
// partitions are silent. Ticks must be part of the log, in its order: then one that was read proves that nothing before it is still on its way.
func (e *Engine) Tick(stored int64) []Result {
	e.line.see(stored)
	before := e.line.watermark
	e.line.merge()
	return e.advance(before, nil)
}

// Advance moves the watermark to w, if it is not there yet. See [Config.Manual].
func (e *Engine) Advance(w int64) []Result {
	before := e.line.watermark
	e.line.move(w, never)
	return e.advance(before, nil)
}

// End says that no event will come any more: the watermark moves to the end of time, every open window fires, and all are gone. It is for bounded
// input, such as a batch over a whole log. Every event after it is late.
func (e *Engine) End() []Result { return e.Advance(endOfTime) }

func (e *Engine) advance(before int64, results []Result) []Result {
	if e.line.watermark == before {
		return results
	}
	if e.sessions != nil {
		return e.sessions.advance(results)
	}
	return e.aligned.advance(before, results)
}

// Open are the windows that have not ended, with their values so far, in the order of end, start, key.
func (e *Engine) Open() []Result {
	if e.sessions != nil {
		return e.sessions.openWindows()
	}
	return e.aligned.openWindows()
}

// Watermark is W: every event with a time before it is presumed seen. ok is false as long as there is none: before the first event of a partition that is waited
// for.
func (e *Engine) Watermark() (w int64, ok bool) {
	if e.line.watermark == never {
		return 0, false
	}
	return e.line.watermark, true
}

// Gone is the end of the windows that are gone: those that end there or before take no event any more, and may be computed again from the log (see [Recompute]).
// ok is false as long as there is none.
func (e *Engine) Gone() (end int64, ok bool) {
	if e.line.gone == never {
		return 0, false
	}
	return e.line.gone, true
}

// Counts says what became of all events so far.
func (e *Engine) Counts() Counts {
	n := &e.counts
	return Counts{
		Counted: n[Counted], PartiallyLate: n[PartiallyLate], TooLate: n[TooLate], Duplicates: n[Duplicate], FutureSkew: n[FutureSkew], NoID: n[NoID],
	}
}

// Config is what the engine was made with.
func (e *Engine) Config() Config { return e.cfg }

// State is how much an engine holds in memory.
type State struct {
	Cells      int // values in the making: one for each key in each slice of event time with live windows, or for each live session
	IDs        int // of events in live windows
	Tombstones int // of sessions
}

// State says how much the engine holds. It costs nothing to ask.
func (e *Engine) State() State {
	if e.sessions != nil {
		return State{Cells: e.sessions.cells, IDs: int(e.sessions.events), Tombstones: e.sessions.tombstones}
	}
	return State{Cells: e.aligned.cells, IDs: int(e.aligned.events)}
}
