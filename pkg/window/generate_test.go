package window_test

import (
	"fmt"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
)

const ms = time.Millisecond

// scale is how many milliseconds a unit of a random log is: calendar windows are long.
func (s *spec) scale() int64 {
	if s.kind == "calendar" {
		return 5 * time.Hour.Milliseconds()
	}
	return 1
}

// anySpec is a random configuration of any kind.
func anySpec(t *rapid.T) spec {
	s := spec{kind: rapid.SampledFrom([]string{"tumbling", "hopping", "session", "calendar"}).Draw(t, "kind")}
	unit := s.scale()
	some := func(least, most int64, name string) int64 { return unit * rapid.Int64Range(least, most).Draw(t, name) }
	span := func(n int64) time.Duration { return time.Duration(n) * ms }
	s.size = rapid.Int64Range(1, 12).Draw(t, "size")
	s.slide = s.size
	if s.kind == "hopping" {
		s.slide = rapid.Int64Range(1, s.size).Draw(t, "slide")
	}
	s.offset = rapid.Int64Range(1-s.slide, s.slide-1).Draw(t, "offset")
	switch s.kind {
	case "tumbling":
		s.cfg.Windows = window.Tumbling(span(s.size), span(s.offset))
	case "hopping":
		s.cfg.Windows = window.Hopping(span(s.size), span(s.slide), span(s.offset))
	case "session":
		s.cfg.Windows = window.Session(span(s.size))
	case "calendar":
		zone := rapid.SampledFrom([]string{"Europe/London", "America/Sao_Paulo", "America/St_Johns", "Pacific/Apia", "UTC"}).Draw(t, "zone")
		s.cfg.Windows = window.Calendar(rapid.SampledFrom([]window.Unit{window.Day, window.Week}).Draw(t, "unit"), zone)
	}
	for range rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(t, "partitions") {
		s.bounds = append(s.bounds, some(0, 9, "bound"))
	}
	s.cfg.Partitions = len(s.bounds)
	for _, b := range s.bounds {
		s.cfg.Bounds = append(s.cfg.Bounds, span(b))
	}
	s.lateness, s.idle = some(0, 8, "lateness"), some(0, 15, "idle")
	s.maxFuture = rapid.SampledFrom([]int64{-1, unit, 6 * unit}).Draw(t, "max future")
	s.idleAdvance = rapid.Bool().Draw(t, "idle advance")
	s.cfg.Lateness, s.cfg.Idle, s.cfg.MaxFuture, s.cfg.NoIdleAdvance = span(s.lateness), span(s.idle), span(s.maxFuture), !s.idleAdvance
	if s.maxFuture < 0 {
		s.cfg.MaxFuture = window.Unlimited
	}
	s.aggregate = rapid.SampledFrom([]string{"count", "sum", "min", "max", "mean", "top"}).Draw(t, "aggregate")
	s.k = rapid.IntRange(1, 3).Draw(t, "k")
	s.cfg.Aggregate = map[string]window.Aggregate{
		"count": window.Count(), "sum": window.Sum(), "min": window.Min(), "max": window.Max(), "mean": window.Mean(), "top": window.Top(s.k),
	}[s.aggregate]
	return s
}

// input is an event or, without one, a tick.
type input struct {
	event  *window.Event
	stored int64
}

// anyLog is a random log: disorder, repeated ids, clocks that are ahead, store times that step back, silent partitions, heartbeats. Where copies are alike,
// events with the same id differ in their store time and partition only.
func anyLog(t *rapid.T, s spec, alike bool) []input {
	unit := s.scale()
	base := int64(0)
	if s.kind == "calendar" {
		base = time.Date(2011, time.October, 28, 0, 0, 0, 0, time.UTC).UnixMilli() // clocks change in London and St John's; two months on, Apia skips a day
		if rapid.Bool().Draw(t, "in December") {
			base = time.Date(2011, time.December, 28, 0, 0, 0, 0, time.UTC).UnixMilli()
		}
	}
	stored := base + unit*rapid.Int64Range(-40, 40).Draw(t, "first store time")
	type step struct {
		tick          bool
		id            int
		key, item     string
		behind, later int64
		value         int64
		partition     int64
		parts         []window.Part
	}
	anyItem := rapid.SampledFrom([]string{"x", "", "y", "z"})
	anyPart := rapid.Custom(func(t *rapid.T) window.Part {
		return window.Part{Item: anyItem.Draw(t, "item of part"), Value: rapid.Int64Range(-5, 5).Draw(t, "value of part")}
	})
	length := rapid.SampledFrom([]int{0, 5, 40, 80}).Draw(t, "length") // on its own rapid makes them short
	steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			tick: rapid.IntRange(0, 9).Draw(t, "tick") == 0, id: rapid.IntRange(0, 60).Draw(t, "id"),
			key: rapid.SampledFrom([]string{"a", "a", "a", "", "b"}).Draw(t, "key"), item: anyItem.Draw(t, "item"),
			behind: rapid.Int64Range(-25, 12).Draw(t, "behind"), later: rapid.Int64Range(-2, 5).Draw(t, "later"), value: rapid.Int64Range(-5, 5).Draw(t, "value"),
			partition: rapid.Int64Range(0, int64(len(s.bounds)-1)).Draw(t, "partition"),
			parts:     rapid.OneOf(rapid.Just([]window.Part(nil)), rapid.SliceOfN(anyPart, 1, 4)).Draw(t, "parts"),
		}
	}), length, length).Draw(t, "log")
	first := make(map[string]window.Event)
	var log []input
	for _, st := range steps {
		stored += unit * st.later
		if st.tick {
			log = append(log, input{stored: stored})
			continue
		}
		ev := window.Event{
			ID: fmt.Sprint(st.id), Key: st.key, Item: st.item, Value: st.value, Time: stored + unit*st.behind, Stored: stored, Partition: int(st.partition),
			Parts: st.parts,
		}
		if st.id == 0 {
			ev.ID = ""
		}
		if before, known := first[ev.ID]; known && alike && ev.ID != "" {
			before.Stored, before.Partition = ev.Stored, ev.Partition
			ev = before
		} else {
			first[ev.ID] = ev
		}
		log = append(log, input{event: &ev, stored: stored})
	}
	return log
}
