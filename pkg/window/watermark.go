package window

import "math"

// line is event time as the engine sees it: how far the partitions have come, and what that means for windows. Before there is a watermark all
// its times are the least int64, which no window's end reaches.
type line struct {
	settings *settings

	clock      int64 // running maximum of store times
	started    bool  // there is a clock
	partitions []partition

	reached   int64 // what the watermark would be with a bound of 0: the event time that the log has reached
	watermark int64
	gone      int64 // windows that end here or before are gone; the watermark less the lateness, or more where the lateness was raised
}

// partition is how far one partition of the log has come.
type partition struct {
	reached  int64 // largest event time, each no later than its store time
	any      bool  // there is one
	lastLife int64 // store time of its last sign of life
}

const never = math.MinInt64

func newLine(s *settings) line {
	l := line{settings: s, clock: never, partitions: make([]partition, len(s.bounds)), reached: never, watermark: never, gone: never}
	for i := range l.partitions {
		l.partitions[i] = partition{reached: never, lastLife: never}
	}
	return l
}

// see takes a store time. Silence is counted from the first one.
func (l *line) see(stored int64) {
	if !l.started {
		l.started = true
		l.clock = stored
		for i := range l.partitions {
			l.partitions[i].lastLife = stored
		}
		return
	}
	l.clock = max(l.clock, stored)
}

// ahead says whether an event's time is too far ahead of the log. It is compared with the log's clock and not with ours, so that a replay decides alike.
func (l *line) ahead(t int64) bool {
	return l.settings.maxFuture >= 0 && t > addSaturating(l.clock, l.settings.maxFuture)
}

// live says that a partition is not silent.
func (l *line) live(p int) { l.partitions[p].lastLife = l.clock }

// take moves a partition to the time of an event, but never past the log's clock: so one clock that is ahead does not make the others' events late.
func (l *line) take(p int, t int64) {
	q := &l.partitions[p]
	if t = min(t, l.clock); !q.any || t > q.reached {
		q.reached, q.any = t, true
	}
}

// idle says whether a partition is not waited for.
func (l *line) idle(p *partition) bool {
	return l.settings.idle > 0 && subSaturating(l.clock, p.lastLife) >= l.settings.idle
}

// merge moves the watermark to the least of the partitions that are waited for. Where none is, the furthest holds, so that the order in which they fell silent
// does not matter; and time goes on behind the log's clock. It never goes back.
func (l *line) merge() {
	if l.settings.manual || !l.started {
		return
	}
	least, leastReached := int64(math.MaxInt64), int64(math.MaxInt64)
	most, mostReached := int64(never), int64(never)
	allIdle := true
	for i := range l.partitions {
		p := &l.partitions[i]
		w := int64(never)
		if p.any {
			w = subSaturating(p.reached, l.settings.bounds[i])
			most, mostReached = max(most, w), max(mostReached, p.reached)
		}
		if l.settings.idle > 0 && l.idle(p) {
			continue
		}
		if !p.any {
			return
		}
		allIdle = false
		least, leastReached = min(least, w), min(leastReached, p.reached)
	}
	if !allIdle {
		l.move(least, leastReached)
		return
	}
	l.move(most, mostReached)
	if l.settings.advance {
		reached := subSaturating(l.clock, l.settings.idle)
		l.move(subSaturating(reached, l.settings.bound), reached)
	}
}

// move moves forward only.
func (l *line) move(watermark, reached int64) {
	l.reached = max(l.reached, reached)
	l.watermark = max(l.watermark, watermark)
	l.retire()
}

// retire moves the line behind which windows are gone. At the end of time all are.
func (l *line) retire() {
	if l.watermark == math.MaxInt64 {
		l.gone = math.MaxInt64
		return
	}
	if l.watermark != never {
		l.gone = max(l.gone, subSaturating(l.watermark, l.settings.lateness))
	}
}

// sample is how late an event is whose last window ends at end.
func (l *line) sample(t, end int64) Sample {
	if l.reached == never {
		return Sample{}
	}
	return Sample{Valid: true, Overrun: subSaturating(l.reached, end), Disorder: max(subSaturating(l.reached, t), 0)}
}
