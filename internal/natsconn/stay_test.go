package natsconn

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestStay: a connection is moved when nothing was answered for ten seconds without a break, and not before, and not where there is nowhere to go. That it is moved for real, e2e shows
// (TestOnlyRoutesCut).
func TestStay(t *testing.T) {
	t.Parallel()
	unavailable := &jetstream.APIError{Code: 503, ErrorCode: codeNoLeader}
	ok, second := error(nil), time.Second
	type answer struct {
		after time.Duration
		err   error
	}
	for _, c := range []struct {
		name    string
		answers []answer
		alone   bool
		moves   int
	}{
		{name: "all is well", answers: []answer{{0, ok}, {20 * second, ok}}},
		{name: "an election", answers: []answer{{0, unavailable}, {9 * second, nats.ErrNoResponders}, {2 * second, ok}, {2 * second, errNoLeader}, {9 * second, errNoLeader}}},
		{name: "cut off", answers: []answer{{0, unavailable}, {5 * second, errNoLeader}, {5 * second, nats.ErrTimeout}}, moves: 1},
		{name: "cut off, and the next one too", answers: []answer{{0, unavailable}, {10 * second, unavailable}, {2 * second, unavailable}, {10 * second, unavailable}}, moves: 2},
		{name: "nowhere to go", answers: []answer{{0, unavailable}, {20 * second, unavailable}}, alone: true},
		{name: "another error", answers: []answer{{0, jetstream.ErrBucketNotFound}, {20 * second, errors.New("no right to ask")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			moves := 0
			s := &stay{
				log: slog.New(slog.DiscardHandler), url: func() string { return "" }, others: func() bool { return !c.alone },
				away: func() error { moves++; return nil },
			}
			now := time.Now()
			for _, a := range c.answers {
				now = now.Add(a.after)
				s.note(a.err, now)
			}
			if moves != c.moves {
				t.Errorf("moved %d times, want %d", moves, c.moves)
			}
		})
	}
}
