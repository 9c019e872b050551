package window

import (
	"errors"
	"fmt"
	"math"
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

// The calendar is for times within 9,000 years of 1970, which zone rules are made for. What lies beyond is one window on each side.
const farthest = int64(9000 * 365 * 24 * 3600 * 1000)

// calendarWindow is the window of t.
func (w Windows) calendarWindow(t int64) Window {
	switch {
	case t >= farthest:
		return Window{Start: farthest, End: endOfTime}
	case t < -farthest:
		return Window{Start: math.MinInt64, End: -farthest}
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
// São Paulo on 2018-11-04. Between two changes of the clocks the way from time to date is plain; a change on the way is found by bisection. (Time.ZoneBounds is of
// no use: on 31 December of leap years from 2040 on it gives a change that is not there, before the time asked about.)
func (w Windows) firstInstant(date time.Time) int64 {
	const farEast = 26 * 3600 // no zone is further from UTC, in seconds
	midnight := date.Unix()
	for t := midnight - farEast; ; {
		first := midnight - w.offsetAt(t)
		change := w.change(t, first)
		switch {
		case change > first:
			return first * 1000
		case change+w.offsetAt(change) >= midnight:
			return change * 1000
		}
		t = change
	}
}

// offsetAt is how far clocks are ahead of UTC, in seconds.
func (w Windows) offsetAt(t int64) int64 {
	_, offset := time.Unix(t, 0).In(w.location).Zone()
	return int64(offset)
}

// change is the second in which clocks were changed after t and not after until; it is later if they were not. There is at most one change in a few days.
func (w Windows) change(t, until int64) int64 {
	before := w.offsetAt(t)
	if w.offsetAt(until) == before {
		return until + 1
	}
	for t+1 < until {
		if middle := t + (until-t)/2; w.offsetAt(middle) == before {
			t = middle
		} else {
			until = middle
		}
	}
	return until
}
