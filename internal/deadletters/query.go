package deadletters

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// ErrQuery is wrapped where a filter can't mean anything. It is the caller's mistake.
var ErrQuery = errors.New("no such filter")

// Query is a filter as a person writes it. Empty fields select all.
type Query struct {
	Group, Key, State, Reason, Fingerprint, EventType string
	Since, Until                                      string // RFC 3339, or how long ago: 15m
}

// Empty reports whether the query selects every letter there is.
func (q Query) Empty() bool { return q == Query{} }

// Narrow refuses to act on every letter by oversight.
func Narrow(q Query, ids []string, all bool) error {
	switch {
	case q.Empty() && len(ids) == 0 && !all:
		return fmt.Errorf("%w: name letters or filters, or say that all are meant", ErrQuery)
	case len(ids) > 0 && (!q.Empty() || all):
		return fmt.Errorf("%w: name either letters or filters", ErrQuery)
	case all && !q.Empty():
		return fmt.Errorf("%w: all, or a filter; not both", ErrQuery)
	}
	return nil
}

// Filter reads the query and reports every field that breaks a rule. An unknown group is refused: a misspelt one would look like an empty dead letter queue.
func (q Query) Filter(t events.Topology, now time.Time) (deadletter.Filter, error) {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrQuery}, args...)...))
	}
	if _, ok := t.Group(q.Group); q.Group != "" && !ok {
		bad("group: %q is no consumer group; they are %s", q.Group, strings.Join(groupNames(t), ", "))
	}
	oneOf(bad, "state", q.State, openStates())
	oneOf(bad, "reason", q.Reason, reasons())
	moment := func(name, text string) time.Time {
		at, err := parseMoment(text, now)
		if err != nil {
			bad("%s: %q is neither a time such as 2026-01-02T15:04:05Z nor how long ago, such as 15m", name, text)
		}
		return at
	}
	f := deadletter.Filter{
		Group: q.Group, Key: q.Key, State: deadletter.State(q.State), Reason: deadletter.Reason(q.Reason),
		Fingerprint: q.Fingerprint, EventType: q.EventType, Since: moment("since", q.Since), Until: moment("until", q.Until),
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		bad("since, until: nothing lies between %s and %s", q.Since, q.Until)
	}
	return f, errors.Join(errs...)
}

func openStates() []deadletter.State {
	return []deadletter.State{deadletter.StateRetrying, deadletter.StateBlocked, deadletter.StateDead, deadletter.StateReplaying}
}

func reasons() []deadletter.Reason {
	return []deadletter.Reason{
		deadletter.ReasonPermanent, deadletter.ReasonExhausted, deadletter.ReasonPanic, deadletter.ReasonCrashLoop, deadletter.ReasonUndecodable,
		deadletter.ReasonUnknownType, deadletter.ReasonUnsupportedVersion, deadletter.ReasonSchema, deadletter.ReasonRule, deadletter.ReasonTransient,
		deadletter.ReasonPredecessor,
	}
}

func oneOf[T ~string](bad func(string, ...any), name, value string, known []T) {
	if value != "" && !slices.Contains(known, T(value)) {
		bad("%s: %q is none of %v", name, value, known)
	}
}

func groupNames(t events.Topology) []string {
	names := make([]string, 0, len(t.Groups))
	for _, g := range t.Groups {
		names = append(names, g.Name)
	}
	return names
}

func parseMoment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Parse(time.RFC3339Nano, text)
}
