package bus

import (
	"context"
	"time"
)

// Standing is what a group has to do, as one of its members sees it. A program that leaves when there is nothing to do (--max-idle) asks for it again and again.
type Standing struct {
	// Moves is larger than before where something was delivered or acknowledged in the group, whoever did it.
	Moves uint64
	// Lag is how many events of the group are not acknowledged: they wait, or a member works on them.
	Lag uint64
	// Retries is how many keys of this member's partitions have a dead letter that is tried again by itself at some time, or a handler that runs. No lag shows them: their
	// events are acknowledged. A letter that waits for a person is not counted.
	Retries int
	// Jobs is how many jobs on the group's dead letters have not ended.
	Jobs int
	// StandsBy: another member does the work of all, and this one waits for its end.
	StandsBy bool
}

// Nothing reports whether there is nothing to do.
func (s Standing) Nothing() bool { return s.Lag == 0 && s.Retries == 0 && s.Jobs == 0 && !s.StandsBy }

// Standing reads what the group has to do.
func (g *Group) Standing(ctx context.Context) (Standing, error) {
	s := Standing{Jobs: g.jobs.count()}
	for _, p := range g.partitions {
		info, err := p.reader.info(ctx)
		if err != nil {
			return Standing{}, err
		}
		s.Moves += info.Delivered.Stream + info.AckFloor.Stream
		s.Lag += info.NumPending + uint64(max(info.NumAckPending, 0)) //nolint:gosec // not negative
		s.Retries += p.letters.locked.scheduled(time.Now()) + p.lanes.busy()
	}
	return s, nil
}

// Standing reads what the log's reader has to do. A heartbeat is nothing to do: one comes each second, for ever.
func (l *Log) Standing(ctx context.Context) (Standing, error) {
	info, err := l.reader.info(ctx)
	if err != nil {
		return Standing{}, err
	}
	return Standing{
		Moves: l.events.Load(), Lag: info.NumPending, Retries: l.letters.locked.scheduled(time.Now()) + l.clerk.lanes.busy(), Jobs: l.jobs.count(),
		StandsBy: !l.members.owning() && pinned(info) != "",
	}, nil
}

// count is how many jobs have not ended.
func (j *jobs) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.active)
}

// scheduled is how many keys have a letter that will be tried again.
func (l *locked) scheduled(now time.Time) int {
	if !l.some.Load() {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, k := range l.keys {
		if k.timer != nil && now.Before(k.due) {
			n++
		}
	}
	return n
}

// busy is how many tasks run.
func (l *lanes) busy() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running + l.aside
}

// owning reports whether this member owns a partition.
func (s *membership) owning() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pins) > 0
}
