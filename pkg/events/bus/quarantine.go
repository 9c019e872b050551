package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// A message that kills its process (out of memory, os.Exit, a bug in a C library) leaves no error behind, and the next owner is sent it again. The broker can't tell it
// from the innocent ones that were in flight with it; it only knows what was delivered and not acknowledged.
//
// So an owner that takes over without a hand-over notes it, if there were such events: one record a partition. Where the record says that an owner before died in the same
// place, the partition is in quarantine: events are handled one at a time, in the whole process, and before each its sequence is written down. If the process dies
// again, the record names the culprit. Its third victim is the last: then the event is parked without being handled. When the
// quarantine's last suspect is done, the partition goes on as always. Outside of quarantine this costs nothing.

// Quarantine lets one event at a time be handled where a process may die of it. The groups of one process share one: else two partitions would each have a suspect
// when it dies, and an innocent one would be blamed.
type Quarantine struct{ turn chan struct{} }

// NewQuarantine returns one.
func NewQuarantine() *Quarantine { return &Quarantine{turn: make(chan struct{}, 1)} }

func (q *Quarantine) enter(ctx context.Context) error {
	select {
	case q.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *Quarantine) leave() { <-q.turn }

const mostVictims = 3

// suspicion is what a term knows of the deaths before it; nil in quiet times.
type suspicion struct {
	record  deadletter.Crash
	high    uint64 // the newest suspect
	culprit uint64 // the event to park unhandled; 0: none yet
}

// suspect looks, at a take-over without a hand-over, whether this happens again and again. floor is the ack floor.
func (p *partition) suspect(ctx context.Context, floor uint64) error {
	p.suspicion = nil
	p.acquitted.Store(false)
	if p.high <= floor {
		return nil
	}
	record, err := p.letters.store.LastCrash(ctx, p.group.Name, p.number)
	if err != nil {
		return err
	}
	if record.High <= floor { // of another time: the group got past it
		record = deadletter.Crash{}
	}
	if !p.owned { // else we have lost the partition and got it back: nobody has died, or we can't know
		record.Deaths++
	}
	culprit := uint64(0)
	if record.Trying > floor && record.Deaths >= mostVictims && record.Instance != p.who.instance {
		culprit = record.Trying
	}
	record = deadletter.Crash{Deaths: record.Deaths, High: max(record.High, p.high), Instance: p.who.instance}
	if record.Deaths == 0 {
		return nil
	}
	if err := p.letters.store.WriteCrash(ctx, p.group.Name, p.number, record); err != nil {
		return err
	}
	if record.Deaths < 2 {
		return nil
	}
	p.suspicion = &suspicion{record: record, high: record.High, culprit: culprit}
	p.log.WarnContext(ctx, "owners of the partition died again and again: handling one event at a time", "deaths", record.Deaths, "from", floor, "to", record.High, "culprit", culprit)
	return nil
}

// alone handles an event in quarantine.
func (p *partition) alone(t *task) (finished bool) {
	if err := p.quarantine.enter(p.patience); err != nil {
		return false
	}
	defer p.quarantine.leave()
	if p.patience.Err() != nil {
		return false
	}
	s := p.suspicion
	if t.seq.stream == s.culprit {
		now := time.Now()
		defer p.acquit()
		return p.park(t, verdict{
			reason: deadletter.ReasonCrashLoop, class: fail.Final, attempts: s.record.Deaths, firstAt: now, lastAt: now, traceparent: t.delivery.Event.TraceParent,
			err: fmt.Errorf("%d processes died while they handled it", s.record.Deaths),
		})
	}
	intent := s.record
	intent.Trying = t.seq.stream
	if err := p.letters.store.WriteCrash(p.patience, p.group.Name, p.number, intent); err != nil {
		p.log.WarnContext(p.life, "an event was given back: what could kill the process is not handled without a record of it", "error", err, "sequence", t.seq.stream)
		p.lose()
		return false
	}
	finished = p.handle(t)
	p.acquit()
	return finished
}

// acquit ends the quarantine after the last suspect.
func (p *partition) acquit() {
	floor, _ := p.window.bounds()
	if floor < p.suspicion.high || p.acquitted.Swap(true) {
		return
	}
	ctx, cancel := context.WithTimeout(p.life, requestTimeout)
	defer cancel()
	if err := p.letters.store.WriteCrash(ctx, p.group.Name, p.number, deadletter.Crash{Instance: p.who.instance}); err != nil {
		p.log.DebugContext(ctx, "the end of the quarantine is not written down; the ack floor says it too", "error", err)
	}
	p.log.InfoContext(p.life, "the quarantine of the partition is over")
}
