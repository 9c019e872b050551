package bus

import "time"

// alarm rings when a handler wants to be called though no event comes.
type alarm struct {
	due   func() time.Time // asked for the time; nil: it never rings
	timer *time.Timer      // runs while there is a time
}

// set asks for the time again. It is called whenever the handler has returned.
func (a *alarm) set() {
	if a.due == nil {
		return
	}
	a.stop()
	if at := a.due(); !at.IsZero() {
		a.timer = time.NewTimer(time.Until(at))
	}
}

// rings delivers the time; nil, which blocks, while there is none.
func (a *alarm) rings() <-chan time.Time {
	if a.timer == nil {
		return nil
	}
	return a.timer.C
}

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
