package lateness

import (
	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tidemark/tidemark/pkg/window"
)

// Hours is how many hours of store time a meter holds, the one that is running too.
const Hours = 24

const (
	hourMillis = 60 * 60 * 1000
	maxOverrun = 24 * hourMillis // what is later is counted only
	digits     = 2
)

// Meter gathers how late one query's events are. It is not safe for use by several goroutines.
type Meter struct {
	clock int64 // running maximum of store times
	waits int64 // bound + lateness, in milliseconds, that the peaks were measured with
	hours [Hours]hour
}

// hour is what one hour of store time gave.
type hour struct {
	number  int64 // hours since 1970
	events  *hdrhistogram.PackedHistogram
	slack   uint64 // events with a negative overrun: their window had not ended yet
	longer  uint64 // events with more than maxOverrun
	peak    window.State
	peakLen int // of [window.Engine.Size]
}

// New returns an empty meter for a query that waits for bound + lateness, in milliseconds. What an engine holds depends on that, so the peaks begin anew when it
// changes.
func New(waits int64) *Meter { return &Meter{waits: waits} }

// Add takes one event's sample, the store time in epoch milliseconds, and what the engine holds after it.
func (m *Meter) Add(stored int64, s window.Sample, state window.State, size int) {
	if !s.Valid {
		return
	}
	m.clock = max(m.clock, stored)
	h := m.at(m.clock / hourMillis)
	switch {
	case s.Overrun < 0:
		h.slack++
	case s.Overrun > maxOverrun || h.events.RecordValue(s.Overrun) != nil:
		h.longer++
	}
	h.peak = larger(h.peak, state)
	h.peakLen = max(h.peakLen, size)
}

// at is the place of an hour; what was there a day before is forgotten.
func (m *Meter) at(number int64) *hour {
	h := &m.hours[number%Hours]
	if h.events == nil || h.number != number {
		*h = hour{number: number, events: newHistogram()}
	}
	return h
}

func newHistogram() *hdrhistogram.PackedHistogram {
	return hdrhistogram.NewPacked(1, maxOverrun, digits)
}

func larger(a, b window.State) window.State {
	return window.State{Cells: max(a.Cells, b.Cells), IDs: max(a.IDs, b.IDs), Tombstones: max(a.Tombstones, b.Tombstones)}
}

// live says whether an hour is one of the last.
func (m *Meter) live(h *hour) bool { return h.events != nil && h.number > m.clock/hourMillis-Hours }

// Sum is what the last hours gave together. It shares nothing with the meter.
func (m *Meter) Sum() *Distribution {
	d := &Distribution{events: newHistogram()}
	for i := range m.hours {
		h := &m.hours[i]
		if !m.live(h) {
			continue
		}
		d.Merge(&Distribution{
			From: h.number * hourMillis, Until: min((h.number+1)*hourMillis, m.clock+1), Slack: h.slack, Longer: h.longer,
			Peak: h.peak, PeakSize: h.peakLen, events: h.events,
		})
	}
	return d
}

// Size is about how long [Meter.Snapshot] is, in bytes.
func (m *Meter) Size() int {
	const perHour, perBar = 40, 5
	n := 16
	for i := range m.hours {
		if h := &m.hours[i]; m.live(h) {
			n += perHour + perBar*int(h.events.Populated())
		}
	}
	return n
}
