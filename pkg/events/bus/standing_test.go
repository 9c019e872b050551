package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// standing reads what a group has to do.
func (f *fixture) standing(m *member) bus.Standing {
	f.Helper()
	s, err := m.group.Standing(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func TestStandingCountsWhatWaitsAndWhatIsInFlight(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	f.publishMany(6, 6)
	open := make(chan struct{})
	m := f.join(bus.GroupConfig{Lanes: 1, Handler: func(ctx context.Context, _ bus.Delivery) error {
		select {
		case <-open:
		case <-ctx.Done():
		}
		return nil
	}})
	eventstest.Eventually(t, generous, "a handler runs", func() bool { return f.standing(m).Retries > 0 })
	if s := f.standing(m); s.Lag != 6 || s.Nothing() {
		t.Errorf("with six events, of which none is done: %+v", s)
	}
	before := f.standing(m).Moves
	close(open)
	eventstest.Eventually(t, generous, "nothing is left", func() bool { return f.standing(m).Nothing() })
	quiet := f.standing(m)
	if quiet.Moves <= before {
		t.Errorf("six events were done, and Moves went from %d to %d", before, quiet.Moves)
	}
	if again := f.standing(m); again != quiet {
		t.Errorf("nothing happened, and it went from %+v to %+v", quiet, again)
	}
	f.publish("one-more")
	eventstest.Eventually(t, generous, "the event has left its trail", func() bool { s := f.standing(m); return s.Nothing() && s.Moves > quiet.Moves })
}

// What waits for its next try as a dead letter has no lag: the event is acknowledged.
func TestStandingCountsLettersThatAreTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	m := f.join(bus.GroupConfig{Retries: []time.Duration{time.Hour}, InPlace: time.Millisecond, Handler: func(context.Context, bus.Delivery) error {
		return errors.New("not now")
	}})
	f.publish("later")
	eventstest.Eventually(t, generous, "the event is a letter that waits", func() bool {
		letters := f.letters()
		return len(letters) == 1 && letters[0].Current.State == deadletter.StateRetrying && f.standing(m).Lag == 0
	})
	if s := f.standing(m); s.Retries != 1 || s.Nothing() {
		t.Errorf("a letter waits for its retry: %+v", s)
	}
	m.stop()
	// Nobody owns the partition now and no event would bring it an owner: whoever comes has it to do.
	next := f.join(bus.GroupConfig{Retries: []time.Duration{time.Hour}, InPlace: time.Millisecond, Handler: newRecord().handle})
	eventstest.Eventually(t, generous, "the next member knows of the retry", func() bool { return f.standing(next).Retries == 1 })
}

// A letter that waits for a person is no reason to stay.
func TestStandingDoesNotCountLettersThatWaitForAPerson(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	m := f.join(bus.GroupConfig{Handler: func(context.Context, bus.Delivery) error { return fail.Permanent(errors.New("never"), "never") }})
	f.publish("parked")
	eventstest.Eventually(t, generous, "it is parked, and nothing is left to do", func() bool { return len(f.letters()) == 1 && f.standing(m).Nothing() })
}
