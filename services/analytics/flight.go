package analytics

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// flight is the results of one record on their way. Each window has a subject of its own, so they need not wait for each other: the broker stores the first while the second is
// encoded. Where what is there before is known, or can be guessed, a result goes out at once; otherwise the broker is asked first, beside those that are on their way.
type flight struct {
	publisher *publisher
	sent      []leg
	asking    *errgroup.Group // about the rest
	asked     []*chain
	err       error // of sending
}

// leg is the message of a chain that is on its way.
type leg struct {
	*chain
	sent
	next int // result of the chain behind it
}

// sendResults sends what can be sent. The flight that it returns must be settled.
func (p *publisher) sendResults(ctx context.Context, names []string, results []result) *flight {
	f := &flight{publisher: p, sent: make([]leg, 0, len(results)), asking: new(errgroup.Group)}
	f.asking.SetLimit(asksAtOnce)
	var slow []*chain
	chains := p.chains(names, results)
	for i, c := range chains {
		if last, ok := p.guess(c); !ok {
			slow = append(slow, c)
		} else if f.err = f.begin(ctx, c, last); f.err != nil {
			return f
		}
		if i == len(chains)/2 {
			if f.err = p.half(); f.err != nil {
				return f
			}
		}
	}
	if len(chains) == 0 {
		f.err = p.half()
	}
	for _, c := range slow {
		f.ask(ctx, c)
	}
	return f
}

func (f *flight) begin(ctx context.Context, c *chain, last uint64) error {
	if err := c.encode(); err != nil {
		return err
	}
	return f.send(ctx, leg{chain: c}, last)
}

// send sends the next result of a chain on top of a message.
func (f *flight) send(ctx context.Context, l leg, last uint64) (err error) {
	if f.publisher.own != nil {
		f.publisher.own.note(l.events[l.next].ID)
	}
	l.sent, err = f.publisher.send(ctx, l.subject(), l.events[l.next], jetstream.WithExpectLastSequencePerSubject(last))
	if err != nil {
		return err
	}
	l.next++
	f.sent = append(f.sent, l)
	return nil
}

func (l *leg) subject() string { return l.chain.subject }

// ask lets the broker say what is there of a chain, and stores the rest one after the other.
func (f *flight) ask(ctx context.Context, c *chain) {
	f.asked = append(f.asked, c)
	f.asking.Go(func() (err error) {
		c.last, err = f.publisher.store(ctx, c)
		return err
	})
}

// settle waits for what is on its way, and for what has to follow it. Whatever it returns, nothing is on its way any more then, but for what ctx has ended for.
func (f *flight) settle(ctx context.Context) error {
	errs := []error{f.err}
	for i := 0; i < len(f.sent); i++ { //nolint:intrange // it grows
		l := f.sent[i]
		ack, err := l.wait(ctx)
		switch {
		case isConflict(err): // the guess was wrong
			f.ask(ctx, l.chain)
		case err != nil:
			errs = append(errs, err)
		case l.next < len(l.events):
			errs = append(errs, f.send(ctx, l, ack.Sequence))
		default:
			l.last = ack.Sequence
			f.publisher.remember(l.chain)
		}
	}
	errs = append(errs, f.asking.Wait())
	for _, c := range f.asked {
		f.publisher.remember(c)
	}
	return errors.Join(errs...)
}

// alarms are alerts on their way.
type alarms struct {
	sent []sent
	err  error // of sending
}

// sendAlerts raises the alerts of the queries that have one. Whichever revision of a window is the first to come out raises it; there is one.
func (p *publisher) sendAlerts(ctx context.Context, names []string, results []result) *alarms {
	a := new(alarms)
	for i := range results {
		r := &results[i]
		q := p.plan.find(names[r.Query])
		if q == nil || q.Alert == nil || r.Timing == "retract" {
			continue
		}
		ev, err := r.alert(q)
		if err != nil {
			a.err = err
			return a
		}
		s, err := p.send(ctx, p.subjects.Alert(q.Alert.Name, r.Key, r.Start), ev, jetstream.WithExpectLastSequencePerSubject(0))
		if err != nil {
			a.err = err
			return a
		}
		a.sent = append(a.sent, s)
	}
	return a
}

func (a *alarms) settle(ctx context.Context) error {
	errs := []error{a.err}
	for i := range a.sent {
		if _, err := a.sent[i].wait(ctx); err != nil && !isConflict(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
