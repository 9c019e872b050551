package lateness

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tidemark/tidemark/pkg/window"
)

// Distribution is how late events were over some hours.
type Distribution struct {
	From, Until   int64        // store time, epoch milliseconds, the last event's in it
	Slack, Longer uint64       // events whose window had not ended; events that were more than a day late
	Peak          window.State // the most that the engine held, each of the three by itself
	PeakSize      int          // of its snapshot, in bytes

	events *hdrhistogram.PackedHistogram
}

// Merge adds what another distribution has, of other hours or of another partition.
func (d *Distribution) Merge(o *Distribution) {
	if o.Events() == 0 {
		return
	}
	if d.Events() == 0 {
		d.From, d.Until = o.From, o.Until
	}
	d.From, d.Until = min(d.From, o.From), max(d.Until, o.Until)
	d.Slack += o.Slack
	d.Longer += o.Longer
	d.Peak, d.PeakSize = larger(d.Peak, o.Peak), max(d.PeakSize, o.PeakSize)
	d.events.Merge(o.events) // nothing is dropped: the ranges are the same
}

// Events is how many were measured.
func (d *Distribution) Events() uint64 {
	return d.Slack + d.Longer + uint64(d.events.TotalCount()) //nolint:gosec // a count
}

// Share is the share of events that a wait catches: those with an overrun less than it. The true share is at least that, and of another wait that is at
// most 0.8 % shorter it is no more. It is 1 where there are no events.
func (d *Distribution) Share(wait time.Duration) float64 {
	all := d.Events()
	if all == 0 {
		return 1
	}
	caught := d.Slack
	d.bars(func(last int64, count uint64) bool {
		if last >= wait.Milliseconds() {
			return false
		}
		caught += count
		return true
	})
	return float64(caught) / float64(all)
}

// Wait is the shortest wait that catches at least a share of the events, up to 0.8 % too long. ok is false where a wait of a day does not.
func (d *Distribution) Wait(share float64) (wait time.Duration, ok bool) {
	all, caught := float64(d.Events()), d.Slack
	if float64(caught) >= share*all {
		return 0, true
	}
	d.bars(func(last int64, count uint64) bool {
		caught += count
		wait = time.Duration(last+1) * time.Millisecond
		ok = float64(caught) >= share*all
		return !ok
	})
	return wait, ok
}

// bars goes over the overruns of 0 and more, ascending: the largest of each bar and how many it holds.
func (d *Distribution) bars(fn func(last int64, count uint64) bool) {
	d.events.ForEachBucket(func(value, count int64) bool {
		return fn(highestIn(value), uint64(count)) //nolint:gosec // a count
	})
}

// highestIn is the largest overrun that counts in the same bar. Bars are one millisecond wide up to 255, then 2 up to 511, and so on: never more
// than a 128th of their value.
func highestIn(v int64) int64 {
	width := int64(1)
	for v/width >= 2*barsPerOctave {
		width *= 2
	}
	return v - v%width + width - 1
}

const barsPerOctave = 128 // of two digits
