package window_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/window"
)

// driver does with an engine what a service does: it commits after some steps, and a crash takes it back to the last commit.
type driver struct {
	t      *testing.T
	cfg    window.Config
	batch  int // steps in a commit; 0: 1, and nothing is left out
	engine *window.Engine

	committed []byte
	log       []window.Event // all, also what is not committed
	since     []func()       // the steps since the commit
	made      output         // what they gave

	output
	recomputed []window.Result
	backfill   []string
}

type output struct {
	results []window.Result
	late    []string
	misses  []window.Miss
	dup     []string
}

func newDriver(t *testing.T, cfg window.Config, batch int) *driver {
	t.Helper()
	e := mustNew(t, cfg)
	return &driver{t: t, cfg: cfg, batch: batch, engine: e, committed: e.Snapshot()}
}

func (d *driver) commit() {
	if d.batch > 0 {
		d.made.results = window.Coalesce(d.made.results)
	}
	d.results = append(d.results, d.made.results...)
	d.late = append(d.late, d.made.late...)
	d.misses = append(d.misses, d.made.misses...)
	d.dup = append(d.dup, d.made.dup...)
	d.made, d.since, d.committed = output{}, nil, d.engine.Snapshot()
}

func (d *driver) crash() {
	d.t.Helper()
	e, err := window.Restore(d.cfg, d.committed)
	if err != nil {
		d.t.Fatal(err)
	}
	if !bytes.Equal(e.Snapshot(), d.committed) {
		d.t.Fatal("a restored engine has another snapshot")
	}
	d.engine, d.made = e, output{}
	for _, again := range d.since {
		again()
	}
}

// do is one step that changes the state.
func (d *driver) do(step func()) {
	step()
	d.since = append(d.since, step)
	if len(d.since) >= d.batch {
		d.commit()
	}
}

func (d *driver) out(results []window.Result) { d.made.results = append(d.made.results, results...) }

func (d *driver) apply(ev window.Event) {
	o := d.engine.Apply(ev)
	d.out(o.Results)
	if o.Verdict == window.Duplicate {
		d.made.dup = append(d.made.dup, ev.ID)
	}
	if !o.Verdict.Late() {
		return
	}
	line := ev.ID + " " + o.Verdict.String()
	for _, w := range o.Missed {
		line += fmt.Sprintf(" %d:%d", w.Start, w.End)
		if o.Verdict != window.FutureSkew {
			d.made.misses = append(d.made.misses, window.Miss{Key: ev.Key, Window: w})
		}
	}
	d.made.late = append(d.made.late, line)
}

func (d *driver) step(text string) error {
	f := strings.Fields(text)
	if len(f) == 0 {
		return errors.New("empty")
	}
	var n int64
	if len(f) == 2 && f[1] != "none" {
		var err error
		if n, err = strconv.ParseInt(f[1], 10, 64); err != nil {
			return err
		}
	}
	switch verb := f[0]; {
	case verb == "ev":
		ev, err := parseEvent(f[1:])
		if err != nil {
			return err
		}
		d.log = append(d.log, ev)
		d.do(func() { d.apply(ev) })
	case verb == "wm" && len(f) == 2:
		d.do(func() { d.out(d.engine.Advance(n)) })
	case verb == "tick" && len(f) == 2:
		d.do(func() { d.out(d.engine.Tick(n)) })
	case verb == "end" && len(f) == 1:
		d.do(func() { d.out(d.engine.End()) })
	case verb == "=wm" && len(f) == 2:
		w, ok := d.engine.Watermark()
		if ok != (f[1] != "none") || ok && w != n {
			return fmt.Errorf("the watermark is %d, %t", w, ok)
		}
	case verb == "restart" && len(f) == 1:
		d.crash()
	case verb == "backfill" && len(f) == 1:
		d.commit()
		for _, r := range d.recompute() {
			d.backfill = append(d.backfill, fmt.Sprintf("%s %d %d %s %s", r.Key, r.Start, r.End, r.Timing, value(r)))
		}
	default:
		return errors.New("not known")
	}
	return nil
}

// recompute is the backfill job over what is committed.
func (d *driver) recompute() []window.Result {
	gone, _ := d.engine.Gone()
	r, err := window.NewRecompute(d.cfg, gone)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, m := range d.misses {
		r.Miss(m)
	}
	for _, ev := range d.log {
		r.Apply(ev)
	}
	results, pending := r.Results(slices.Values(slices.Concat(d.results, d.recomputed)))
	d.misses = pending
	d.recomputed = append(d.recomputed, results...)
	return results
}

// parseEvent reads "ID KEY T [v=N] [p=PARTITION] [s=STORE_TIME]".
func parseEvent(f []string) (window.Event, error) {
	if len(f) < 3 {
		return window.Event{}, errors.New("an event needs id, key and time")
	}
	at, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return window.Event{}, err
	}
	ev := window.Event{ID: f[0], Key: f[1], Time: at, Stored: at, Value: 1}
	for _, option := range f[3:] {
		name, text, _ := strings.Cut(option, "=")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return window.Event{}, err
		}
		switch name {
		case "v":
			ev.Value = n
		case "p":
			ev.Partition = int(n)
		case "s":
			ev.Stored = n
		default:
			return window.Event{}, fmt.Errorf("option %q is not known", name)
		}
	}
	return ev, nil
}
