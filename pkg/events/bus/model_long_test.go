//go:build long

package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// world is what handlers change, fenced as an aggregate is: the version of each key, which only the next one may move. It is the reference model too: whatever a
// group does with failures, crashes and letters, no version may be applied out of order, none twice, and none may be lost.
type world struct {
	mu       sync.Mutex
	behavior map[string]string // by event id: what its handling does
	applied  map[string][]uint64
	skipped  map[string]map[uint64]bool // discarded by an operator
	edited   map[string]bool            // by event id: corrected, and not applied since
	dead     map[string]bool            // members that must not do anything any more
	broken   []string
}

func newWorld() *world {
	return &world{behavior: make(map[string]string), applied: make(map[string][]uint64), skipped: make(map[string]map[uint64]bool), edited: make(map[string]bool), dead: make(map[string]bool)}
}

const correctedCustomer = "corrected"

// member is the handler of one member.
func (w *world) member(name string) bus.Handler {
	return func(ctx context.Context, d bus.Delivery) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.dead[name] { // its process is gone
			w.mu.Unlock()
			<-ctx.Done()
			w.mu.Lock()
			return ctx.Err()
		}
		if w.corrected(d) {
			return w.apply(d.Event.Key(), d.Event.Version)
		}
		switch w.behavior[d.Event.ID] {
		case "permanent":
			return fail.Permanent(errors.New("never"))
		case "once":
			w.behavior[d.Event.ID] = ""
			return errors.New("not yet")
		case "panic":
			panic("ouch")
		}
		return w.apply(d.Event.Key(), d.Event.Version)
	}
}

// corrected reports whether the event has the payload of an edit. A replay must have it where there was one, and say so.
func (w *world) corrected(d bus.Delivery) bool {
	yes := bytes.Contains(d.Event.Data, []byte(correctedCustomer))
	if d.Replay != nil && w.edited[d.Event.ID] && !yes {
		w.broken = append(w.broken, fmt.Sprintf("%s, version %d: replayed without its correction", d.Event.Key(), d.Event.Version))
	}
	if said := d.Event.Extensions[events.ExtensionEdited] == "true"; said != yes {
		w.broken = append(w.broken, fmt.Sprintf("%s, version %d: corrected %t, said to be corrected %t", d.Event.Key(), d.Event.Version, yes, said))
	}
	if yes {
		delete(w.edited, d.Event.ID)
	}
	return yes
}

// apply is the lock: a repeat changes nothing, a gap is refused, and noted: the group must not let it come to that.
func (w *world) apply(key string, version uint64) error {
	last := uint64(0)
	if n := len(w.applied[key]); n > 0 {
		last = w.applied[key][n-1]
	}
	if version <= last {
		return nil
	}
	for v := last + 1; v < version; v++ {
		if !w.skipped[key][v] {
			w.broken = append(w.broken, fmt.Sprintf("%s: version %d came while the last applied was %d", key, version, last))
			return errors.New("gap")
		}
	}
	w.applied[key] = append(w.applied[key], version)
	return nil
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// TestModel does random things to a group and its letters: publish, fail, crash, lose acknowledgements, take over, replay, edit, discard. The order of each key
// holds all the time, and in the end everything is applied or was discarded by an operator, with no letter left.
func TestModel(t *testing.T) {
	t.Parallel()
	schemas := registry(t)
	rapid.Check(t, func(rt *rapid.T) {
		(&run{fixture: newFixture(t, 2, single), T: rt, schemas: schemas, world: newWorld()}).play()
	})
}

type run struct {
	*fixture
	*rapid.T

	schemas *events.Registry
	world   *world
	members []*liveMember
	made    int
	keys    map[string]uint64
}

type liveMember struct {
	*member
	name string
	js   jetstream.JetStream
}

func (r *run) play() {
	r.keys = make(map[string]uint64)
	r.join()
	steps := map[string]func(){
		"publish": r.publish, "publish again": r.publish, "crash": r.crash, "take over": r.takeOver, "lose acknowledgements": r.rewind,
		"replay": r.replay, "discard": r.discard, "edit": r.edit, "note": r.note, "mend": r.mend,
	}
	names := []string{"publish", "publish again", "crash", "take over", "lose acknowledgements", "replay", "discard", "edit", "note", "mend"}
	for range rapid.IntRange(5, 25).Draw(r.T, "steps") {
		steps[rapid.SampledFrom(names).Draw(r.T, "step")]()
	}
	r.mendAll()
	if len(r.members) == 0 {
		r.join()
	}
	r.fixture.settled(r.group)
	eventstest.Eventually(r.fixture, 40*time.Second, "no letter is left", func() bool {
		letters := r.fixture.letters()
		dead := false
		for _, l := range letters {
			dead = dead || l.Current.State == deadletter.StateDead
		}
		if dead {
			r.fixture.done(r.fixture.job(deadletter.JobReplay, func(j *deadletter.Job) { j.Force = true }))
		}
		return len(letters) == 0
	})
	r.judge()
	for _, m := range r.members {
		m.stop()
	}
}

func (r *run) judge() {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	if len(r.world.broken) > 0 {
		r.T.Fatalf("order: %v", r.world.broken)
	}
	for key, sent := range r.keys {
		got := 0
		for v := uint64(1); v <= sent; v++ {
			if r.world.skipped[key][v] {
				got++
			}
		}
		got += len(r.world.applied[key])
		if uint64(got) < sent {
			r.T.Fatalf("%s: %d sent, applied %v, discarded %v", key, sent, r.world.applied[key], r.world.skipped[key])
		}
	}
}

func (r *run) join() {
	r.made++
	name := fmt.Sprintf("m%d", r.made)
	js := r.server.JetStream()
	cfg := bus.GroupConfig{
		Handler: r.world.member(name), Retries: []time.Duration{time.Millisecond, 20 * time.Millisecond}, InPlace: 5 * time.Millisecond,
		Drain: time.Millisecond, Breaker: bus.BreakerConfig{Keys: -1},
	}
	r.members = append(r.members, &liveMember{member: r.joinOn(cfg, r.deps(js)), name: name, js: js})
}

// publish stores some events of some keys, each with what its handling will do.
func (r *run) publish() {
	for range rapid.IntRange(1, 6).Draw(r.T, "events") {
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(r.T, "key")
		b := rapid.SampledFrom([]string{"", "", "", "once", "permanent", "panic"}).Draw(r.T, "behavior")
		r.fixture.publishWith(key, func(ev *events.Event) { r.world.set(func() { r.world.behavior[ev.ID] = b }) })
		r.keys[key]++
	}
}

// crash: a member vanishes, with whatever it has in its hands.
func (r *run) crash() {
	if len(r.members) == 0 {
		return
	}
	m := r.members[0]
	r.members = r.members[1:]
	r.world.set(func() { r.world.dead[m.name] = true })
	m.js.Conn().Close()
	if len(r.members) == 0 {
		r.join()
	}
}

// takeOver: another member joins, and the first one leaves in an orderly way.
func (r *run) takeOver() {
	r.join()
	if len(r.members) > 1 {
		r.members[0].stop()
		r.members = r.members[1:]
	}
}

// rewind: the broker sends events again that were settled.
func (r *run) rewind() {
	p := rapid.IntRange(0, 1).Draw(r.T, "partition")
	info := r.info(r.group, p)
	if info.AckFloor.Stream < 2 {
		return
	}
	to := rapid.Uint64Range(1, info.AckFloor.Stream).Draw(r.T, "to")
	if _, err := r.js.ResetConsumerToSequence(context.Background(), r.group.Stream, r.group.Consumer(p), to); err != nil {
		r.T.Fatal(err)
	}
}

func (r *run) some() []deadletter.Letter {
	var out []deadletter.Letter
	for _, l := range r.fixture.letters() {
		if rapid.Bool().Draw(r.T, "this letter") {
			out = append(out, l)
		}
	}
	return out
}

func (r *run) jobOf(kind deadletter.JobKind, letters []deadletter.Letter) {
	if len(letters) == 0 {
		return
	}
	job := deadletter.Job{Group: r.group.Name, Kind: kind, By: "model", Why: "test", Canary: rapid.Bool().Draw(r.T, "canary")}
	for i := range letters {
		job.Letters = append(job.Letters, deadletter.RefTo(&letters[i]))
	}
	if _, err := r.desk().CreateJob(context.Background(), job); err != nil {
		r.T.Fatal(err)
	}
}

func (r *run) replay() { r.jobOf(deadletter.JobReplay, r.some()) }

// discard gives dead heads up. The model allows the gap from now on.
func (r *run) discard() {
	var heads []deadletter.Letter
	for _, l := range r.some() {
		if l.Current.State == deadletter.StateDead {
			heads = append(heads, l)
			r.world.set(func() {
				if r.world.skipped[l.Key] == nil {
					r.world.skipped[l.Key] = make(map[uint64]bool)
				}
				r.world.skipped[l.Key][l.KeyVersion] = true
			})
		}
	}
	r.jobOf(deadletter.JobDiscard, heads)
}

// edit corrects payloads. What was corrected fails no more, and must not be replayed as it was. Handlers wait meanwhile, so that the model knows which of the two came first.
func (r *run) edit() {
	for _, l := range r.some() {
		corrected := fmt.Appendf(nil, `{"order_id":%q,"customer_id":%q,"reason":"customer"}`, l.Key, correctedCustomer)
		r.world.set(func() {
			_, err := r.desk().Edit(context.Background(), r.schemas, l.ID, corrected, "model", "a correction")
			switch {
			case err == nil:
				r.world.edited[l.EventID] = true
			case !errors.Is(err, deadletter.ErrConflict) && !errors.Is(err, deadletter.ErrNotAllowed) && !errors.Is(err, deadletter.ErrNotFound):
				r.T.Fatal(err)
			}
		})
	}
}

func (r *run) note() {
	for _, l := range r.some() {
		_, err := r.desk().Note(context.Background(), l.ID, "model", "a note")
		if err != nil && !errors.Is(err, deadletter.ErrConflict) && !errors.Is(err, deadletter.ErrNotAllowed) && !errors.Is(err, deadletter.ErrNotFound) {
			r.T.Fatal(err)
		}
	}
}

// mend: the cause of some failures is gone.
func (r *run) mend() {
	r.world.set(func() {
		for id := range r.world.behavior {
			if id[0]%2 == 0 {
				r.world.behavior[id] = ""
			}
		}
	})
}

func (r *run) mendAll() {
	r.world.set(func() { clear(r.world.behavior) })
}
