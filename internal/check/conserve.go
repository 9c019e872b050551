package check

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
)

// account is how the events stand that a group had to handle: delivered = applied + duplicates + parked + discarded. What is none of these is lost. Duplicates have no effect to
// be seen; a second effect breaks other invariants.
type account struct {
	finding
	letters *letters
}

// handled accounts for one event of an aggregate: it has had its effect, or there is a letter that says why not.
func (a *account) handled(group, key string, version uint32, applied bool, lost string) {
	a.counted++
	at := eventOf{group, key, uint64(version)}
	switch {
	case applied, a.letters.discarded[at]:
	case a.letters.parked[at]:
		a.waiting++
	default:
		a.breaks("group %s: %s, version %d: %s, and there is no dead letter", group, key, version, lost)
	}
}

// judgeConservation: what a group was given was handled, parked, or given up on record; and what was parked is there still, or its end is on record.
func (c *checker) judgeConservation(r rest) Result {
	s := c.read.state
	a := account{letters: &r.letters}
	for i := range s.orders {
		o := &s.orders[i]
		if o.placedSeq == 0 {
			continue
		}
		for version := uint32(1); version <= toldVersions; version++ {
			if bit := uint32(1) << (version - 1); o.news&bit != 0 {
				a.handled(events.GroupNotify, o.id, version, o.told[0]&bit != 0, "the customer was not told")
			}
		}
		if !o.status.ended() { // what is open is judged by 5 and 16
			a.counted++
			a.waiting++
			continue
		}
		a.handled(events.GroupInventory, o.id, 1, o.stock > 0, "order.placed was not answered")
		applied, lost := o.releases+o.commits > 0 || o.reservations == 0, "its reservation was not released"
		if o.status == confirmed {
			applied, lost = o.commits > 0, "its stock was not committed"
		}
		a.handled(events.GroupInventory, o.id, o.ended, applied, lost)
	}
	a.counted += r.letters.count + r.letters.closed
	a.waiting += r.letters.count
	if lost := r.letters.removed - r.letters.closed; lost > 0 {
		a.breaks("%d letters are gone from DLQ, and nothing says that they were resolved or discarded", lost)
	}
	return result(11, a.finding)
}

// toldVersions is how many versions of an order are looked at for notices: one bit each. An order has three at most today.
const toldVersions = 32

// judgeOrder: what inventory decided about an order answers its events in their order, and skips none that was not given up on record.
func (c *checker) judgeOrder(l *letters) Result {
	s := c.read.state
	f := s.order12
	for i := range s.orders {
		f.counted += int(s.orders[i].stock)
	}
	for _, skip := range s.skips {
		o := &s.orders[skip.order]
		if !l.discarded[eventOf{events.GroupInventory, o.id, 1}] {
			f.breaks("STOCK %d: order %s: the warehouse answers its end and never answered order.placed, which was not discarded", skip.sequence, o.id)
		}
	}
	return result(12, f)
}

// judgeDeadlines: an open order ends by itself, since its deadline is pending; and a letter that waits for an earlier one of its key has one to wait for.
func (c *checker) judgeDeadlines(ctx context.Context, r rest) (Result, error) {
	s := c.read.state
	var f finding
	now := time.Now()
	subjects := c.cfg.Topology.Subjects()
	for i := range s.orders {
		o := &s.orders[i]
		if o.placedSeq == 0 {
			continue
		}
		f.counted++
		if o.status.ended() {
			continue
		}
		if r.letters.keys[o.id] || now.After(time.UnixMilli(o.storedAt).Add(c.cfg.OrderDeadline)) { // 5 judges those
			f.waiting++
			continue
		}
		_, err := c.read.last(ctx, events.StreamTimers, subjects.Timer(o.id))
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return Result{}, fmt.Errorf("deadline of order %s: %w", o.id, err)
		}
		if err != nil {
			f.breaks("order %s is open, and TIMERS has no deadline for it", o.id)
		}
	}
	for _, l := range r.letters.stuck {
		f.counted++
		if now.Sub(l.since) < c.cfg.StuckAfter {
			f.waiting++ // its owner is about to go on
			continue
		}
		f.breaks("letter %s waits for an earlier one of its key, and there is none", l.id)
	}
	return result(16, f), nil
}

// mails are what the mail sink took. None where there is no sink, or where mail goes elsewhere.
type mails struct {
	ids     idIndex // by the hash of the Message-ID
	ours    []strayMail
	missing bool
}

// strayMail is a mail about an order that is known here, for which no notice stands.
type strayMail struct{ id, order string }

// outbox reads the books of the mail sink.
func (c *checker) outbox(ctx context.Context) (mails, error) {
	m := mails{missing: true}
	if c.sys.api == nil {
		return m, nil
	}
	s := c.read.state
	for e, err := range c.sys.api.Mails(ctx) {
		if err != nil {
			return mails{missing: true}, ctx.Err()
		}
		if e.Kind != client.MailAccepted {
			continue
		}
		m.missing = false
		hash := s.hash.text(e.MessageID)
		m.ids.add(hash, 0)
		if s.mails.has(hash) {
			continue
		}
		token, _, _ := strings.Cut(e.MessageID, ".")
		if order, err := events.Untoken(token); err == nil {
			if _, known := s.index[order]; known {
				m.ours = append(m.ours, strayMail{e.MessageID, order})
			}
		}
	}
	return m, nil
}

// judgeTold: each event of an order was told once over each channel; what a notice says was sent, the mail server took, and the other way round.
func (c *checker) judgeTold(r rest) Result {
	s := c.read.state
	f := s.told7
	for i := range s.orders {
		for _, channel := range s.orders[i].told {
			f.counted += bits.OnesCount32(channel)
		}
	}
	if r.mails.missing {
		return result(7, f)
	}
	for _, e := range s.mails.entries {
		if !r.mails.ids.has(e.hash) {
			f.breaks("NOTICES %d says that a mail was sent, which the mail server never took", e.sequence)
		}
	}
	for _, m := range r.mails.ours {
		if r.letters.keys[m.order] {
			f.waiting++
			continue
		}
		f.breaks("mail %s about order %s was sent, and no notice records it", m.id, m.order)
	}
	return result(7, f)
}
