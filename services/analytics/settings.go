package analytics

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// Settings are how one query treats time: what may be changed without changing what it means. A change holds from the next event on.
type Settings struct {
	Bound     time.Duration // how far the watermark trails the largest event time; 0 suits a log in order of event time
	Lateness  time.Duration // how long a window takes late events after it has come out; 0: none
	Idle      time.Duration // a partition that is silent for so long is not waited for; 0: it is, for ever
	HoldIdle  bool          // while all partitions are silent the watermark stays; otherwise it follows the log's clock
	MaxFuture time.Duration // an event that is dated more than this ahead of its store time is late; 0: [window.DefaultMaxFuture]
	Mode      Mode          // when results come out
}

// DefaultSettings are those of a query that is told nothing. The lateness keeps windows, and the ids of their events, for five minutes longer, and for
// that the usual stragglers correct a result at once instead of at the next backfill: a click of 11:58 pm that arrives at 12:03 am is in its hour.
func DefaultSettings() Settings {
	return Settings{Bound: time.Minute, Lateness: 5 * time.Minute, Idle: 10 * time.Second, MaxFuture: window.DefaultMaxFuture}
}

// waits is how long a window is kept behind the event time that the log has reached, in milliseconds.
func (s *Settings) waits() int64 { return (s.Bound + s.Lateness).Milliseconds() }

// Mode says when a query's results come out. The zero value is event by event: each commit has all that there is. Otherwise they are held back and come out
// together, each window once, when a time has passed or a number of events has been read, whichever comes first. What is counted, what is late and the last
// result of each window are the same in every mode.
type Mode struct {
	Every  time.Duration // 0: whatever time it is
	Events int           // that the query took; 0: however many
}

// Limits of micro-batches: what is held back is in memory, and is to be read again after a crash.
const (
	minEvery  = 10 * time.Millisecond
	maxEvery  = 10 * time.Second
	maxEvents = 100_000
)

const perEvent = "per-event"

// ParseMode reads the text form of a mode: "per-event", "100ms", "1000events", or both, as in "1s,1000events".
func ParseMode(s string) (Mode, error) {
	var m Mode
	if s == perEvent {
		return m, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		if number, ok := strings.CutSuffix(part, "events"); ok && m.Events == 0 {
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 {
				return Mode{}, modeError(s)
			}
			m.Events = n
			continue
		}
		d, err := time.ParseDuration(part)
		if err != nil || d <= 0 || m.Every != 0 {
			return Mode{}, modeError(s)
		}
		m.Every = d
	}
	return m, m.Validate()
}

func modeError(s string) error {
	return fmt.Errorf("mode: must be %s, a time such as 100ms, a number such as 1000events, or both with a comma, is %q", perEvent, s)
}

// Validate reports every rule that the mode breaks, joined.
func (m Mode) Validate() error {
	var errs []error
	if m.Every != 0 && (m.Every < minEvery || m.Every > maxEvery) {
		errs = append(errs, fmt.Errorf("mode: a time must be %s to %s, is %s", minEvery, maxEvery, m.Every))
	}
	if m.Events < 0 || m.Events > maxEvents {
		errs = append(errs, fmt.Errorf("mode: a number of events must be 1 to %d, is %d", maxEvents, m.Events))
	}
	return errors.Join(errs...)
}

// String is the text form.
func (m Mode) String() string {
	var parts []string
	if m.Every > 0 {
		parts = append(parts, m.Every.String())
	}
	if m.Events > 0 {
		parts = append(parts, strconv.Itoa(m.Events)+"events")
	}
	if parts == nil {
		return perEvent
	}
	return strings.Join(parts, ",")
}

// MarshalText and UnmarshalText make the text form that of flags and of JSON.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the text form.
func (m *Mode) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMode(string(b))
	return err
}

// batched is false for event by event.
func (m Mode) batched() bool { return m != Mode{} }
