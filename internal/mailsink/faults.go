package mailsink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// Faults are what the sink does wrong on purpose. The zero value does nothing wrong.
type Faults struct {
	TemporaryRate float64 // share of mails, 0 to 1, that are refused with 451
	PermanentRate float64 // share of mails, 0 to 1, that are refused with 550
	Delay         time.Duration
	RefusedText   string // a mail whose subject or body holds it is refused with 554, as a provider's content filter does; empty: none is
}

const (
	maxDelay = time.Minute
	maxText  = 200
)

// Validate reports every field that breaks a rule, joined.
func (f Faults) Validate() error {
	var errs []error
	rate := func(name string, v float64) {
		if !(v >= 0 && v <= 1) { // also refuses NaN
			errs = append(errs, fmt.Errorf("%s: is %v, must be 0 to 1", name, v))
		}
	}
	rate("temporary_rate", f.TemporaryRate)
	rate("permanent_rate", f.PermanentRate)
	if f.TemporaryRate+f.PermanentRate > 1 {
		errs = append(errs, errors.New("temporary_rate, permanent_rate: together at most 1"))
	}
	if f.Delay < 0 || f.Delay > maxDelay {
		errs = append(errs, fmt.Errorf("delay: is %s, must be 0 to %s", f.Delay, maxDelay))
	}
	if len(f.RefusedText) > maxText {
		errs = append(errs, fmt.Errorf("refused_text: has %d bytes, must have at most %d", len(f.RefusedText), maxText))
	}
	return errors.Join(errs...)
}

type faultSwitch struct{ current atomic.Pointer[Faults] }

func (s *faultSwitch) get() Faults {
	if f := s.current.Load(); f != nil {
		return *f
	}
	return Faults{}
}

// SetFaults switches faults on or, with the zero value, off. They are forgotten when the sink ends.
func (s *Sink) SetFaults(f Faults) error {
	if err := f.Validate(); err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	s.faults.current.Store(&f)
	return nil
}

// Faults are the faults that are switched on.
func (s *Sink) Faults() Faults { return s.faults.get() }

// strike waits as long as the faults say and then returns the refusal of a mail that they call for, if any.
func (f Faults) strike(ctx context.Context, m message) *smtp.SMTPError {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return refusal(421, smtp.EnhancedCode{4, 3, 2}, "Shutting down")
		}
	}
	if f.RefusedText != "" && (strings.Contains(m.subject, f.RefusedText) || strings.Contains(m.body, f.RefusedText)) {
		return refusal(554, smtp.EnhancedCode{5, 7, 1}, "Refused by the content filter (switched on)")
	}
	switch draw := rand.Float64(); { //nolint:gosec // chance, not a secret
	case draw < f.TemporaryRate:
		return refusal(451, smtp.EnhancedCode{4, 3, 0}, "Try again later (switched on)")
	case draw < f.TemporaryRate+f.PermanentRate:
		return refusal(550, smtp.EnhancedCode{5, 1, 1}, "No such mailbox (switched on)")
	}
	return nil
}

func refusal(code int, enhanced smtp.EnhancedCode, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}
