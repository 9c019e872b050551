package deadletters

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// Cause is all letters of one group that failed for one reason.
type Cause struct {
	Group       string    `json:"group"`
	Reason      string    `json:"reason"`
	Fingerprint string    `json:"fingerprint"`
	Count       int       `json:"count" doc:"Letters that failed for this cause"`
	Retrying    int       `json:"retrying,omitempty" doc:"Of these, how many the group tries again by itself"`
	Waiting     int       `json:"waiting,omitempty" doc:"Letters that stand behind these and have not failed: the later events of their keys"`
	Keys        int       `json:"keys" doc:"Different keys"`
	BlockedKeys int       `json:"blocked_keys" doc:"Keys whose later events wait until the letter is replayed or discarded"`
	Oldest      time.Time `json:"oldest" doc:"When the first of them was parked"`
	Newest      time.Time `json:"newest" doc:"When the last of them was parked"`
	Error       string    `json:"error" doc:"The error of the newest"`
	Example     string    `json:"example" doc:"Id of the newest"`
}

// Causes are the causes of all letters that fit, most letters first. A letter that only waits behind another one counts with that one's cause.
func (d *Desk) Causes(ctx context.Context, f deadletter.Filter) ([]Cause, error) {
	// The letters that wait have neither the reason nor the type of what they wait for. They are read, and counted where they belong.
	read := deadletter.Filter{Group: f.Group, Key: f.Key}
	t := newTally(d)
	for l, err := range d.store.Letters(ctx, read) {
		if err != nil {
			return nil, err
		}
		t.add(&l, wanted(&f, &l))
	}
	return t.causes(), nil
}

// wanted reports whether a letter fits, as [deadletter.Store.Letters] would.
func wanted(f *deadletter.Filter, l *deadletter.Letter) bool {
	failure := failureOf(&l.Current)
	return (f.State == "" || f.State == l.Current.State) && (f.Reason == "" || f.Reason == failure.Reason) &&
		(f.Fingerprint == "" || f.Fingerprint == failure.Fingerprint) && (f.EventType == "" || f.EventType == l.EventType) &&
		(f.Since.IsZero() || !l.ParkedAt.Before(f.Since)) && (f.Until.IsZero() || l.ParkedAt.Before(f.Until))
}

type causeID struct{ group, reason, fingerprint string }

// place is where letters wait for each other.
type place struct {
	group     string
	partition int
	key       string
}

// tally adds letters up, in the order in which they were parked.
type tally struct {
	independent map[string]bool // groups
	byID        map[causeID]*Cause
	keys        map[causeID]map[string]bool
	heads       map[place]causeID // what the letters of a key wait for
}

func newTally(d *Desk) *tally {
	t := &tally{independent: make(map[string]bool), byID: make(map[causeID]*Cause), keys: make(map[causeID]map[string]bool), heads: make(map[place]causeID)}
	for _, g := range d.topology.Groups {
		t.independent[g.Name] = g.Independent
	}
	return t
}

func (t *tally) add(l *deadletter.Letter, wanted bool) {
	at := place{l.Group, l.Partition, l.Key}
	failure := failureOf(&l.Current)
	if l.Current.State == deadletter.StateBlocked {
		if c := t.byID[t.heads[at]]; c != nil {
			c.Waiting++
		}
		return
	}
	id := causeID{l.Group, string(failure.Reason), failure.Fingerprint}
	_, behind := t.heads[at]
	if !behind {
		t.heads[at] = id
	}
	if !wanted {
		return
	}
	c := t.byID[id]
	if c == nil {
		c = &Cause{Group: l.Group, Reason: id.reason, Fingerprint: id.fingerprint, Oldest: l.ParkedAt}
		t.byID[id], t.keys[id] = c, make(map[string]bool)
	}
	c.Count++
	if l.Current.State == deadletter.StateRetrying {
		c.Retrying++
	}
	t.keys[id][l.Key] = true
	c.Keys = len(t.keys[id])
	if !behind && !t.independent[l.Group] {
		c.BlockedKeys++
	}
	c.Newest, c.Error, c.Example = l.ParkedAt, failure.Error, l.ID
}

func (t *tally) causes() []Cause {
	out := make([]Cause, 0, len(t.byID))
	for _, c := range t.byID {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return out
}
