package deadletters

import (
	"errors"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

func (o *office) choose(kind deadletter.JobKind, q Query, ids ...string) *Selection {
	o.Helper()
	f, err := q.Filter(o.topology, time.Now())
	if err != nil {
		o.Fatal(err)
	}
	s, err := o.Select(o.Context(), kind, f, ids)
	if err != nil {
		o.Fatal(err)
	}
	return s
}

func TestSelect(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	dead := o.park(events.GroupInventory, "o1")
	o.park(events.GroupInventory, "o1", behind)
	o.park(events.GroupInventory, "o2", func(l *deadletter.Letter) { l.FirstState, l.NextAt = deadletter.StateRetrying, failedAt })
	running := o.park(events.GroupInventory, "o3")
	o.owner(running, deadletter.StateReplaying, deadletter.ActionClaim)
	deep := o.park(events.GroupNotify, "o1", func(l *deadletter.Letter) { l.ReplayDepth = deadletter.MostDepth })
	for name, tc := range map[string]struct {
		s    *Selection
		want int
	}{
		"a replay is about the dead":               {o.choose(deadletter.JobReplay, Query{Group: events.GroupInventory}), 1},
		"a replay of what is retrying":             {o.choose(deadletter.JobReplay, Query{State: "retrying"}), 1},
		"a discard is about all that stand still":  {o.choose(deadletter.JobDiscard, Query{Group: events.GroupInventory}), 3},
		"by id, given twice":                       {o.choose(deadletter.JobReplay, Query{}, dead.ID, deep.ID, dead.ID), 2},
		"all":                                      {o.choose(deadletter.JobReplay, Query{}), 2},
		"what is parked for something else is not": {o.choose(deadletter.JobReplay, Query{Fingerprint: "f9"}), 0},
	} {
		if got := tc.s.Count(); got != tc.want {
			t.Errorf("%s: %d letters, want %d", name, got, tc.want)
		}
	}
	s := o.choose(deadletter.JobReplay, Query{})
	if len(s.Preview) != 2 || s.Preview[0].Group != events.GroupInventory || s.Preview[1].TooDeep != 1 || s.Preview[0].Reasons["exhausted"] != 1 {
		t.Errorf("preview %+v", s.Preview)
	}
	if _, err := o.Select(t.Context(), deadletter.JobReplay, deadletter.Filter{}, []string{dead.ID, "notify:ORDERS:77"}); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("with an id that is not there: %v", err)
	}
}

// A job is about what was there when it was ordered, has a name and a reason, and can be followed and cancelled.
func TestAJobFromTheOrderToTheEnd(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.park(events.GroupInventory, "o1")
	o.park(events.GroupNotify, "o1")
	s := o.choose(deadletter.JobReplay, Query{})
	late := o.park(events.GroupNotify, "o2")
	jobs, err := o.Start(t.Context(), s, Order{By: "ann", Why: "provider is back", Canary: true, Rate: 5})
	if err != nil || len(jobs) != 2 || jobs[0].State != deadletter.JobRunning || jobs[1].Total != 1 {
		t.Fatalf("%+v, %v", jobs, err)
	}
	d, err := o.ShowJob(t.Context(), jobs[1].ID)
	if err != nil || d.Group != events.GroupNotify || !d.Canary || d.Rate != 5 || d.By != "ann" || len(d.Letters) != 1 || d.Letters[0] == late.ID {
		t.Errorf("%+v, %v", d, err)
	}
	told := 0
	go func() {
		_, err := o.store.UpdateJob(o.Context(), events.GroupNotify, jobs[1].ID, func(j *deadletter.JobStatus) error {
			j.Partitions[0], j.State, j.By = deadletter.Progress{Done: 1, Resolved: 1}, deadletter.JobDone, "notify@i"
			return nil
		})
		if err != nil {
			o.Error(err)
		}
	}()
	done, err := o.Await(t.Context(), events.GroupNotify, jobs[1].ID, func(Job) { told++ })
	if err != nil || done.State != deadletter.JobDone || done.Resolved != 1 || told == 0 {
		t.Errorf("%+v, %v, told %d times", done, err, told)
	}
	if _, err := o.CancelJob(t.Context(), jobs[1].ID, "ann", "x"); !errors.Is(err, deadletter.ErrNotAllowed) {
		t.Errorf("cancel what has ended: %v", err)
	}
	cancelled, err := o.CancelJob(t.Context(), jobs[0].ID, "bob", "wrong list")
	if err != nil || cancelled.State != deadletter.JobCancelled || cancelled.Ended != "bob: wrong list" || cancelled.By != "ann" {
		t.Errorf("%+v, %v", cancelled, err)
	}
	d, err = o.ShowJob(t.Context(), jobs[0].ID)
	if last := d.Steps[len(d.Steps)-1]; err != nil || last.By != "bob" || last.Why != "wrong list" || d.By != "ann" {
		t.Errorf("%+v, %v", d, err)
	}
	all, err := o.Jobs(t.Context(), "")
	if err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := o.Job(t.Context(), "nothing"); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestNarrow(t *testing.T) {
	t.Parallel()
	for _, bad := range []error{
		Narrow(Query{}, nil, false), Narrow(Query{Key: "k"}, []string{"x"}, false), Narrow(Query{Key: "k"}, nil, true), Narrow(Query{}, []string{"x"}, true),
	} {
		if !errors.Is(bad, ErrQuery) {
			t.Errorf("%v", bad)
		}
	}
	if err := errors.Join(Narrow(Query{}, nil, true), Narrow(Query{Key: "k"}, nil, false), Narrow(Query{}, []string{"x"}, false)); err != nil {
		t.Error(err)
	}
	if err := Accountable(" ", ""); !errors.Is(err, ErrUnaccountable) {
		t.Errorf("%v", err)
	}
}
