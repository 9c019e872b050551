package check

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// heads are where the logs end that a service reads or writes. TIMELINE is not among them: a heartbeat reaches it every second.
type heads map[string]uint64

func (c *checker) heads(ctx context.Context) (heads, error) {
	h := heads{}
	for _, stream := range []string{
		events.StreamOrders, events.StreamStock, events.StreamNotices, events.StreamTimers, events.StreamClicks, events.StreamDLQ, events.StreamDLQCtl,
	} {
		end, err := c.read.end(ctx, stream)
		if err != nil {
			return nil, err
		}
		h[stream] = end
	}
	return h, nil
}

// moved says which log has grown, or nothing.
func (h heads) moved(to heads) string {
	for stream, end := range to {
		if h[stream] != end {
			return stream + " is being written"
		}
	}
	return ""
}

// atRest says what the system still has to do, or nothing, and where its logs end. All groups are looked at while the logs do not grow: what one has handled
// can't have given another one something to do that was not seen.
func (c *checker) atRest(ctx context.Context) (h heads, why string, err error) {
	if h, err = c.heads(ctx); err != nil {
		return nil, "", err
	}
	target, why, err := c.timeline(ctx, h)
	if err != nil || why != "" {
		return h, why, err
	}
	for _, g := range c.cfg.Topology.Groups {
		lag, err := c.lag(ctx, g, target)
		if err != nil {
			return nil, "", err
		}
		if lag > 0 {
			return h, fmt.Sprintf("group %s is %d events behind", g.Name, lag), nil
		}
	}
	c.timelineTarget = target
	after, err := c.heads(ctx)
	if err != nil {
		return nil, "", err
	}
	return h, h.moved(after), nil
}

// lag is how many events a group has not handled. Of TIMELINE only those count that stood there up to the target: heartbeats never end.
func (c *checker) lag(ctx context.Context, g events.Group, target uint64) (uint64, error) {
	var sum uint64
	for p := range g.Partitions {
		consumer, err := c.sys.js.Consumer(ctx, g.Stream, g.Consumer(p))
		if err != nil {
			return 0, fmt.Errorf("%w: group %s: %w", ErrNoSystem, g.Name, err)
		}
		info := consumer.CachedInfo()
		lag := info.NumPending + uint64(max(info.NumAckPending, 0)) //nolint:gosec // not negative
		if g.Stream == events.StreamTimeline {
			lag = min(lag, target-min(target, info.AckFloor.Stream))
		}
		sum += lag
	}
	return sum, nil
}

// timeline is the sequence in TIMELINE up to which it holds the ends of ORDERS and CLICKS, or what it lacks.
func (c *checker) timeline(ctx context.Context, h heads) (target uint64, why string, err error) {
	for _, stream := range []string{events.StreamOrders, events.StreamClicks} {
		at, found, err := c.copied(ctx, stream, h[stream])
		if err != nil {
			return 0, "", err
		}
		if !found {
			return 0, "TIMELINE is behind " + stream, nil
		}
		target = max(target, at)
	}
	return target, "", nil
}

// copied finds the copy of a stream's last message in TIMELINE: there is an exact subject to ask for, so this is cheap. What has expired there counts
// as copied.
func (c *checker) copied(ctx context.Context, stream string, end uint64) (at uint64, found bool, err error) {
	if end == 0 {
		return 0, true, nil
	}
	origin, err := c.sys.js.Stream(ctx, stream)
	if err != nil {
		return 0, false, fmt.Errorf("read %s: %w", stream, err)
	}
	last, err := origin.GetMsg(ctx, end)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, true, nil // expired meanwhile
	}
	if err != nil {
		return 0, false, fmt.Errorf("read %s %d: %w", stream, end, err)
	}
	timeline, err := c.sys.js.Stream(ctx, events.StreamTimeline)
	if err != nil {
		return 0, false, fmt.Errorf("read TIMELINE: %w", err)
	}
	state := timeline.CachedInfo()
	expired := state.Config.MaxAge > 0 && state.TimeStamp.Sub(last.Time) > state.Config.MaxAge
	copied, err := timeline.GetLastMsgForSubject(ctx, last.Subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, expired, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read TIMELINE: %w", err)
	}
	return copied.Sequence, expired || originSequence(copied) >= end, nil
}

// originSequence is the second field of the header in which the server says where it copied a message from.
func originSequence(m *jetstream.RawStreamMsg) uint64 {
	const header = "Nats-Stream-Source"
	fields := strings.Fields(m.Header.Get(header))
	if len(fields) < 2 {
		return 0
	}
	sequence, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return sequence
}
