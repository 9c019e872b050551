package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Faults are what the gateway does wrong. The zero value does nothing wrong.
type Faults struct {
	DeclineRate           float64  // share of new keys that are declined; decided once a key and remembered
	ErrorRate             float64  // share of requests that are answered 500 before anything is done
	ErrorAfterCaptureRate float64  // share of charges that are done and answered 500: the answer is lost
	Delay                 Duration // before each answer; at most a minute
}

// Duration is written as text, such as "200ms".
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration such as 200ms", text)
	}
	*d = Duration(v)
	return nil
}

type faultsJSON struct {
	DeclineRate           float64  `json:"decline_rate"`
	ErrorRate             float64  `json:"error_rate"`
	ErrorAfterCaptureRate float64  `json:"error_after_capture_rate"`
	Delay                 Duration `json:"delay"`
}

// MarshalJSON writes the faults as the API shows them.
func (f Faults) MarshalJSON() ([]byte, error) { return json.Marshal(faultsJSON(f)) }

const maxDelay = time.Minute

// Validate reports every fault that is out of its range, joined.
func (f Faults) Validate() error {
	var errs []error
	rate := func(name string, v float64) {
		if !(v >= 0 && v <= 1) { // written so that NaN is refused
			errs = append(errs, fmt.Errorf("%s: must be from 0 to 1, is %g", name, v))
		}
	}
	rate("decline_rate", f.DeclineRate)
	rate("error_rate", f.ErrorRate)
	rate("error_after_capture_rate", f.ErrorAfterCaptureRate)
	if f.Delay < 0 || time.Duration(f.Delay) > maxDelay {
		errs = append(errs, fmt.Errorf("delay: must be from 0s to %s, is %s", maxDelay, time.Duration(f.Delay)))
	}
	return errors.Join(errs...)
}

// Faults are the faults that are switched on.
func (g *Gateway) Faults() Faults {
	g.faultMu.RLock()
	defer g.faultMu.RUnlock()
	return g.faults
}

// SetFaults switches faults while the gateway runs.
func (g *Gateway) SetFaults(f Faults) error {
	if err := f.Validate(); err != nil {
		return err
	}
	g.faultMu.Lock()
	defer g.faultMu.Unlock()
	g.faults = f
	return nil
}

// delay waits as the faults say, or until the caller has gone.
func (g *Gateway) delay(ctx context.Context) {
	d := time.Duration(g.Faults().Delay)
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
