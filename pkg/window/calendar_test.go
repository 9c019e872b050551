package window_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
)

// The odd days of the world, from the zone database.
func TestCalendarOnOddDays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, zone string
		unit       window.Unit
		at         string // in UTC
		start, end string // as the clocks there show them
		length     time.Duration
	}{
		{"a plain day", "Europe/London", window.Day, "2026-03-01T12:00:00Z", "2026-03-01 00:00", "2026-03-02 00:00", 24 * time.Hour},
		{"clocks go forward", "Europe/Berlin", window.Day, "2024-03-31T12:00:00Z", "2024-03-31 00:00", "2024-04-01 00:00", 23 * time.Hour},
		{"clocks go back", "Europe/Berlin", window.Day, "2024-10-27T12:00:00Z", "2024-10-27 00:00", "2024-10-28 00:00", 25 * time.Hour},
		{"by half an hour", "Australia/Lord_Howe", window.Day, "2024-10-06T01:00:00Z", "2024-10-06 00:00", "2024-10-07 00:00", 23*time.Hour + 30*time.Minute},
		{"and back", "Australia/Lord_Howe", window.Day, "2024-04-07T01:00:00Z", "2024-04-07 00:00", "2024-04-08 00:00", 24*time.Hour + 30*time.Minute},
		{"no midnight", "America/Sao_Paulo", window.Day, "2018-11-04T12:00:00Z", "2018-11-04 01:00", "2018-11-05 00:00", 23 * time.Hour},
		{"the day before it", "America/Sao_Paulo", window.Day, "2018-11-04T02:59:59Z", "2018-11-03 00:00", "2018-11-04 01:00", 24 * time.Hour},
		{"no midnight in Havana", "America/Havana", window.Day, "2024-03-10T12:00:00Z", "2024-03-10 01:00", "2024-03-11 00:00", 23 * time.Hour},
		{"midnight twice in Havana", "America/Havana", window.Day, "2024-11-03T04:30:00Z", "2024-11-03 00:00", "2024-11-04 00:00", 25 * time.Hour},
		{"before a date that was skipped", "Pacific/Apia", window.Day, "2011-12-30T09:00:00Z", "2011-12-29 00:00", "2011-12-31 00:00", 24 * time.Hour},
		{"after it", "Pacific/Apia", window.Day, "2011-12-30T10:00:00Z", "2011-12-31 00:00", "2012-01-01 00:00", 24 * time.Hour},
		{"a date comes twice, first time", "America/St_Johns", window.Day, "2010-11-07T02:30:30Z", "2010-11-07 00:00", "2010-11-08 00:00", 25 * time.Hour},
		{"a date comes twice, between", "America/St_Johns", window.Day, "2010-11-07T02:31:30Z", "2010-11-07 00:00", "2010-11-08 00:00", 25 * time.Hour},
		{"a week with a change, from Monday", "Europe/London", window.Week, "2026-03-29T23:30:00Z", "2026-03-30 00:00", "2026-04-06 00:00", 7 * 24 * time.Hour},
		{"the week before", "Europe/London", window.Week, "2026-03-29T22:59:59Z", "2026-03-23 00:00", "2026-03-30 00:00", 7*24*time.Hour - time.Hour},
		{"February", "UTC", window.Month, "2024-02-29T23:59:59Z", "2024-02-01 00:00", "2024-03-01 00:00", 29 * 24 * time.Hour},
		{"December", "Asia/Kathmandu", window.Month, "2025-12-31T18:14:59Z", "2025-12-01 00:00", "2026-01-01 00:00", 31 * 24 * time.Hour},
		{"the last day of a leap year, by rule", "Europe/London", window.Day, "2040-12-31T23:30:00Z", "2040-12-31 00:00", "2041-01-01 00:00", 24 * time.Hour},
		{"the day after it", "America/Havana", window.Day, "2041-01-01T12:00:00Z", "2041-01-01 00:00", "2041-01-02 00:00", 24 * time.Hour},
		{"before 1970", "Europe/London", window.Day, "1968-02-18T12:00:00Z", "1968-02-18 00:00", "1968-02-19 00:00", 23 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			location, err := time.LoadLocation(c.zone)
			if err != nil {
				t.Fatal(err)
			}
			w := window.Calendar(c.unit, c.zone).Of(at.UnixMilli())[0]
			there := func(ms int64) string { return time.UnixMilli(ms).In(location).Format("2006-01-02 15:04") }
			if there(w.Start) != c.start || there(w.End) != c.end || time.Duration(w.End-w.Start)*ms != c.length {
				t.Errorf("[%s, %s), %s; want [%s, %s), %s", there(w.Start), there(w.End), time.Duration(w.End-w.Start)*ms, c.start, c.end, c.length)
			}
		})
	}
}

// All windows touch and none overlap, whatever the zone has seen: what is at a window's bounds is in it, and in the next.
func TestCalendarHasNoGaps(t *testing.T) {
	t.Parallel()
	zones := []string{
		"UTC", "Europe/London", "Europe/Dublin", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "America/Goose_Bay", "Pacific/Apia", "Pacific/Kwajalein",
		"Australia/Lord_Howe", "Asia/Gaza", "Africa/Monrovia", "Antarctica/Troll", "America/Scoresbysund", "Asia/Manila",
	}
	rapid.Check(t, func(t *rapid.T) {
		windows := window.Calendar(rapid.SampledFrom([]window.Unit{window.Day, window.Week, window.Month}).Draw(t, "unit"), rapid.SampledFrom(zones).Draw(t, "zone"))
		at := rapid.OneOf(rapid.Int64Range(-5e12, 5e12), rapid.Int64Range(-3e14, 3e14), rapid.Int64()).Draw(t, "t")
		all := windows.Of(at)
		if len(all) != 1 {
			t.Fatalf("%d is in %v", at, all)
		}
		w := all[0]
		if at < w.Start || at >= w.End && at != 1<<63-1 || w.Start >= w.End {
			t.Fatalf("%d is in %v", at, w)
		}
		for probe, want := range map[int64]window.Window{w.Start: w, w.End - 1: w, w.Start + (w.End-w.Start)/2: w} {
			if got := windows.Of(probe)[0]; got != want {
				t.Fatalf("%d is in %v, which has %d, which is in %v", at, w, probe, got)
			}
		}
		if next := windows.Of(w.End)[0]; next.Start != w.End && w.End != 1<<63-1 {
			t.Fatalf("%v is followed by %v", w, next)
		}
	})
}

// Windows at the far ends of int64 don't wrap.
func TestWindowsAtTheEndsOfTime(t *testing.T) {
	t.Parallel()
	for _, windows := range []window.Windows{
		window.Tumbling(time.Hour, time.Minute), window.Hopping(time.Hour, 7*time.Minute, -time.Minute), window.Session(time.Hour), window.Calendar(window.Month, "Asia/Manila"),
	} {
		for _, at := range []int64{-1 << 63, -1<<63 + 1, 1<<63 - 1, 1<<63 - 2, -1 << 62, 1 << 62, 1<<62 - 1, -1<<62 - 1} {
			for _, w := range windows.Of(at) {
				if w.Start >= w.End {
					t.Errorf("%s.Of(%d) has %v", windows, at, w)
				}
			}
			e := mustNew(t, window.Config{Windows: windows, MaxFuture: window.Unlimited})
			out := e.Apply(window.Event{ID: "a", Time: at, Stored: at})
			if out.Verdict != window.Counted {
				t.Errorf("%s at %d: %s", windows, at, out.Verdict)
			}
			if got := append(out.Results, e.End()...); len(got) != len(windows.Of(at)) || e.State() != (window.State{}) {
				t.Errorf("%s at %d: %v at the end, left %+v", windows, at, got, e.State())
			}
		}
	}
}
