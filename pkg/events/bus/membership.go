package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// membership is how the members of a group find each other: each puts a heartbeat into a bucket that forgets it after a while, and watches those of the others. From the list
// of members each computes which partitions are its own (assign.go), and reads those alone.
//
// Nothing but evenness rests on it. That a partition is read by one member at a time is the pin's work, and that its order survives a change is the reset rule's (doc.go). So
// the lists of two members may differ for a while: a partition that two members take for their own is read by who has the pin; one that nobody takes for
// his own is found by all who look for orphans (reader.go). And where the bucket can't be read, every member stands by on every partition, as if there were no membership.
//
// A member knows that it hears the others because it hears itself: its own heartbeats come back through the same watch. Who does not is deaf and opens the watch anew.
type membership struct {
	js      jetstream.JetStream
	group   events.Group
	name    string
	log     *slog.Logger
	metrics *metrics
	seats   []*seat

	mu      sync.Mutex
	joined  uint64         // revision of the first heartbeat; 0: not known yet
	mine    []int          // the partitions that are this member's to read
	pins    map[int]string // of those that it owns
	news    chan struct{}  // one of the two has changed
	decided bool
}

// heartbeat is what a member says of itself.
type heartbeat struct {
	Joined     uint64         `json:"joined,omitempty"` // revision of its first heartbeat; 0: this one
	Since      time.Time      `json:"since"`
	Partitions []int          `json:"partitions,omitempty"` // that are its own to read
	Pins       map[int]string `json:"pins,omitempty"`       // by partition that it owns, as the broker shows them
}

const (
	beatTimeout  = time.Second
	beatsInTTL   = 4                // a heartbeat each quarter of the time after which it is forgotten
	retryMembers = 10 * time.Second // at most, between two tries to open the bucket
)

var errDeaf = errors.New("own heartbeats do not come back")

func newMembership(js jetstream.JetStream, g events.Group, log *slog.Logger, m *metrics) *membership {
	s := &membership{js: js, group: g, name: memberName(), metrics: m, pins: make(map[int]string), news: make(chan struct{}, 1)}
	s.log = log.With("group", g.Name, "member", s.name)
	for range g.Partitions {
		s.seats = append(s.seats, newSeat())
	}
	return s
}

// run is a member until ctx ends, and then leaves: the others may prepare to take over while this one finishes what it has.
func (s *membership) run(ctx context.Context) {
	since := time.Now()
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		err := s.session(ctx, since)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > retryMembers {
			failures = 0
		}
		failures++
		if first := !s.isDecided(); first || failures > 1 { // one failure is the broker's change of leader, or a pause of this process
			s.standByEverywhere(ctx, err)
		}
		if failures > 1 {
			sleep(ctx, backoff(failures-1, 200*time.Millisecond, retryMembers))
		}
	}
	for _, seat := range s.seats {
		seat.leave()
	}
	s.leave(ctx)
}

// session opens the bucket, joins, and follows the others until it can't be done any more.
func (s *membership) session(ctx context.Context, since time.Time) error {
	kv, ttl, err := openMembers(ctx, s.js)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := kv.Watch(ctx, s.group.Name+".*")
	if err != nil {
		return fmt.Errorf("watch the members: %w", err)
	}
	defer func() { _ = watch.Stop() }() // fails where the connection is closed, and then nothing is left to stop
	var beating sync.WaitGroup
	defer beating.Wait()
	defer cancel()
	beating.Go(func() { s.beat(ctx, kv, ttl/beatsInTTL, since) })
	return s.follow(ctx, watch.Updates(), newView(s.group.Name, s.name, ttl))
}

// follow keeps the list of members and what follows from it up to date.
func (s *membership) follow(ctx context.Context, updates <-chan jetstream.KeyValueEntry, v *view) error {
	tick := time.NewTicker(v.ttl / beatsInTTL)
	defer tick.Stop()
	var known []peer
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-updates:
			if !open {
				return errors.New("the watch of the members ended")
			}
			if e == nil {
				v.complete = true
			} else {
				v.hear(e, time.Now())
			}
		case <-tick.C:
			now := time.Now()
			if now.Sub(v.echo) > v.ttl {
				s.setJoined(0) // the others have forgotten us
				return errDeaf
			}
			v.forget(now)
		}
		joined, here := v.self()
		s.setJoined(joined)
		if members := v.peers(); here && v.complete && !slices.Equal(members, known) {
			known = members
			s.apply(ctx, members)
		}
	}
}

// apply gives each reader its partition, or takes it.
func (s *membership) apply(ctx context.Context, members []peer) {
	owners := assign(s.group.Partitions, s.group.Single, members)
	changed := false
	var mine []int
	for p, owner := range owners {
		changed = s.seats[p].set(owner == s.name) || changed
		if owner == s.name {
			mine = append(mine, p)
		}
	}
	first := s.decide(mine)
	if !changed {
		return
	}
	if !first {
		s.metrics.rebalances.add(ctx)
	}
	s.log.InfoContext(ctx, "partitions are shared among the members", "members", len(members), "mine", mine)
}

// standByEverywhere is what a member does that can't see the others: what it owns it keeps, and of everything else it takes what nobody owns.
func (s *membership) standByEverywhere(ctx context.Context, why error) {
	changed := false
	for _, seat := range s.seats {
		changed = seat.set(true) || changed
	}
	if s.decide(nil); changed {
		s.log.WarnContext(ctx, "the members of the group can't be seen, so partitions are not shared evenly; reading goes on", "error", why)
	}
}

// beat says that we are here, again and again, and at once where our pins have changed.
func (s *membership) beat(ctx context.Context, kv jetstream.KeyValue, every time.Duration, since time.Time) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, beatTimeout)
		_, err := kv.Put(try, s.group.Name+"."+s.name, s.heartbeat(since))
		cancel()
		if err != nil && ctx.Err() == nil {
			s.log.DebugContext(ctx, "heartbeat not stored", "error", err) // who does not hear it again, opens the bucket again
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.news:
		}
	}
}

func (s *membership) heartbeat(since time.Time) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, _ := json.Marshal(heartbeat{Joined: s.joined, Since: since.UTC(), Partitions: s.mine, Pins: s.pins}) // numbers and strings: can't fail
	return value
}

// leave takes our heartbeat away, so that the others need not wait for it to be forgotten.
func (s *membership) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
	defer cancel()
	kv, err := s.js.KeyValue(ctx, events.BucketMembers)
	if err == nil {
		err = kv.Delete(ctx, s.group.Name+"."+s.name)
	}
	if err != nil {
		s.log.DebugContext(ctx, "could not take leave of the other members", "error", err)
	}
}

// owns notes the pin of a partition that this member reads from now on, or, where it is empty, does not read any more.
func (s *membership) owns(partition int, pin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pin == "" {
		delete(s.pins, partition)
	} else {
		s.pins[partition] = pin
	}
	s.tell()
}

// tell lets the next heartbeat come at once.
func (s *membership) tell() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *membership) setJoined(revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = revision
}

func (s *membership) isDecided() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decided
}

// decide notes that every reader knows what it has to do, and reports whether none knew before.
func (s *membership) decide(mine []int) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = !s.decided
	s.decided, s.mine = true, mine
	s.tell()
	return first
}

// view is the list of members as one watch shows it. It is for one goroutine.
type view struct {
	prefix   string
	name     string // our own
	ttl      time.Duration
	complete bool // what was there at the start has been heard
	echo     time.Time
	members  map[string]sighting
}

type sighting struct {
	joined uint64
	heard  time.Time
}

func newView(group, name string, ttl time.Duration) *view {
	return &view{prefix: group + ".", name: name, ttl: ttl, echo: time.Now(), members: make(map[string]sighting)}
}

func (v *view) hear(e jetstream.KeyValueEntry, now time.Time) {
	name := e.Key()[len(v.prefix):]
	if e.Operation() != jetstream.KeyValuePut {
		delete(v.members, name)
		return
	}
	var h heartbeat
	if err := json.Unmarshal(e.Value(), &h); err != nil || h.Joined == 0 { // what can't be read is of a version that we don't know, and a member
		h.Joined = e.Revision()
	}
	v.members[name] = sighting{joined: h.Joined, heard: now}
	if name == v.name {
		v.echo = now
	}
}

// forget drops members whose heartbeat the broker should have forgotten: it does so a little late at times, and in a change of leaders not at all.
func (v *view) forget(now time.Time) {
	maps.DeleteFunc(v.members, func(_ string, m sighting) bool { return now.Sub(m.heard) > v.ttl+v.ttl/beatsInTTL })
}

// self is what is known of ourselves.
func (v *view) self() (joined uint64, here bool) {
	m, here := v.members[v.name]
	return m.joined, here
}

func (v *view) peers() []peer {
	out := make([]peer, 0, len(v.members))
	for _, name := range slices.Sorted(maps.Keys(v.members)) {
		out = append(out, peer{name: name, joined: v.members[name].joined})
	}
	return out
}
