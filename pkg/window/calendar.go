package window

import (
	"errors"
	"fmt"
	"time"
)

// Unit is what a calendar window holds.
type Unit uint8

// The units.
const (
	Day  Unit = iota + 1
	Week      // from Monday
	Month
)

func (u Unit) String() string {
	switch u {
	case Day:
		return "day"
	case Week:
		return "week"
	case Month:
		return "month"
	}
	return fmt.Sprintf("Unit(%d)", uint8(u))
}

// Calendar cuts event time into the days, weeks or months of a place, named as the IANA time zone database does ("Europe/London"). A window goes from
// the first instant of a local date to the first instant of the next one that exists. So where clocks change a day has 23 or 25 hours, a
// midnight that does not exist is no problem, and a date that was skipped has no window.
//
// "UTC" is a zone; "Local" is refused, since its meaning depends on the machine. Where a system has no zone data, a program
// imports time/tzdata.
func Calendar(unit Unit, zone string) Windows {
	w := Windows{kind: calendar, unit: unit, zone: zone}
	switch zone {
	case "":
		w.err = errors.New("required, is missing")
	case "Local":
		w.err = errors.New(`must be the name of a place, "Local" depends on the machine`)
	default:
		if w.location, w.err = time.LoadLocation(zone); w.err != nil {
			w.err = fmt.Errorf("must be in the time zone database: %w", w.err)
		}
	}
	return w
}

// The calendar is for times within 146 million years; what lies beyond is one window on each side.
const farthest = int64(1) << 62

// calendarWindow is the window of t.
func (w Windows) calendarWindow(t int64) Window {
	switch {
	case t >= farthest:
		return Window{Start: farthest, End: addSaturating(farthest, farthest)}
	case t < -farthest:
		return Window{Start: -farthest - farthest, End: -farthest}
	}
	date := w.floor(time.UnixMilli(t).In(w.location))
	start, next := w.firstInstant(date), w.next(date)
	end := w.firstInstant(next)
	// Where clocks go back over a midnight, a date is left, comes again and is left again. Its successor began at the first time.
	for end <= t || end == start {
		if end > start {
			start = end
		}
		next = w.next(next)
		end = w.firstInstant(next)
	}
	return Window{Start: max(start, -farthest), End: min(end, farthest)}
}

// floor is the first date of the unit that holds t, as midnight in UTC: dates are counted there, where every day has 24 hours.
func (w Windows) floor(t time.Time) time.Time {
	year, month, day := t.Date()
	switch w.unit {
	case Month:
		day = 1
	case Week:
		day -= (int(t.Weekday()) + 6) % 7 // since Monday
	}
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

func (w Windows) next(date time.Time) time.Time {
	switch w.unit {
	case Month:
		return date.AddDate(0, 1, 0)
	case Week:
		return date.AddDate(0, 0, 7)
	}
	return date.AddDate(0, 0, 1)
}

// firstInstant is when clocks first showed this date or a later one. time.Date can't say: it gives the day before where midnight does not exist, as in
// São Paulo on 2018-11-04. Between two changes of the clocks the way from time to date is plain, so each such period is asked in turn.
func (w Windows) firstInstant(date time.Time) int64 {
	const farEast = 26 * time.Hour // no zone is further from UTC
	midnight := date.UnixMilli()
	for t := date.Add(-farEast); ; {
		t = t.In(w.location)
		from, to := t.ZoneBounds()
		_, offset := t.Zone()
		first := midnight - int64(offset)*1000
		if !from.IsZero() {
			first = max(first, from.UnixMilli())
		}
		if to.IsZero() || first < to.UnixMilli() {
			return first
		}
		t = to
	}
}
