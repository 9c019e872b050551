package lateness

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// Target is what shares of the events a query's owner wants: in the result when it first comes out, and in it before its window is gone. What is left
// is for a backfill.
type Target struct {
	OnTime, Final float64
}

// DefaultTarget is 99 % on time and 99.99 % before a backfill.
func DefaultTarget() Target { return Target{OnTime: 0.99, Final: 0.9999} }

// ErrTarget is wrapped by the errors of [Target.Validate].
var ErrTarget = errors.New("invalid target")

// Validate reports the rules that a target breaks, joined.
func (t Target) Validate() error {
	var errs []error
	if !(t.OnTime > 0 && t.OnTime <= 1) { // not a number neither
		errs = append(errs, fmt.Errorf("%w: on time: must be more than 0 and at most 1, is %g", ErrTarget, t.OnTime))
	}
	if !(t.Final >= t.OnTime && t.Final <= 1) {
		errs = append(errs, fmt.Errorf("%w: final: must be at least on time (%g) and at most 1, is %g", ErrTarget, t.OnTime, t.Final))
	}
	return errors.Join(errs...)
}

// Point is one point of the curve.
type Point struct {
	Wait  time.Duration
	Share float64 // of the events that it catches
}

// Cost is what waiting costs and gives.
type Cost struct {
	Bound, Lateness time.Duration

	OnTime      float64       // share of events that are in the first result
	Final       float64       // share that is in the result before the window is gone; the rest needs a backfill
	Refinements float64       // share of events that make a result come out once more: Final - OnTime
	Latency     time.Duration // from a window's end to its first result, in event time: the bound

	// What the engine holds at most, and its size in bytes as it is stored. Measured for the settings that hold; for others in proportion to how many windows
	// live at once.
	Peak      window.State
	PeakBytes int
}

// Advice is what the last hours say about one query.
type Advice struct {
	Target   Target
	Now      Cost // of the settings that hold
	Proposed Cost
	Reached  bool // the proposal reaches the target; else even a day of waiting would not
	Curve    []Point
}

// Setting is what a query runs with.
type Setting struct {
	Windows         window.Windows
	Bound, Lateness time.Duration
}

// Advise says what bound and allowed lateness reach a target, and what that costs.
func Advise(d *Distribution, now Setting, target Target) Advice {
	onTime, okOnTime := d.Wait(target.OnTime)
	final, okFinal := d.Wait(target.Final)
	next := Setting{Windows: now.Windows, Bound: onTime, Lateness: final - onTime}
	return Advice{
		Target: target, Now: cost(d, now, now), Proposed: cost(d, now, next), Reached: okOnTime && okFinal, Curve: curve(d),
	}
}

func cost(d *Distribution, now, then Setting) Cost {
	onTime, final := d.Share(then.Bound), d.Share(then.Bound+then.Lateness)
	c := Cost{Bound: then.Bound, Lateness: then.Lateness, OnTime: onTime, Final: final, Refinements: final - onTime, Latency: then.Bound}
	ratio := slides(then) / slides(now)
	scale := func(n int) int { return int(math.Ceil(float64(n) * ratio)) }
	c.Peak = window.State{Cells: scale(d.Peak.Cells), IDs: scale(d.Peak.IDs), Tombstones: scale(d.Peak.Tombstones)}
	c.PeakBytes = scale(d.PeakSize)
	return c
}

// slides is how many slides of event time live at once: each key has about that many cells.
func slides(s Setting) float64 {
	size, slide := s.Windows.Lengths()
	return math.Ceil(float64(size+s.Bound+s.Lateness) / float64(slide))
}

// curve is the share at waits that people think in.
func curve(d *Distribution) []Point {
	waits := []time.Duration{
		0, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	}
	points := make([]Point, len(waits))
	for i, w := range waits {
		points[i] = Point{Wait: w, Share: d.Share(w)}
	}
	return points
}
