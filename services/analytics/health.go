package analytics

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// health is whether the worker gets on.
type health struct {
	mu    sync.Mutex
	err   error
	since time.Time // the first failure in a row
}

// patient is how long a fault that may pass is not yet called one: a broker that restarts, a take-over.
const patient = 30 * time.Second

// note takes what became of a step.
func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(err, errOtherInstance) {
		err = nil // the other one works
	}
	if err != nil && h.err == nil {
		h.since = time.Now()
	}
	h.err = err
}

// failing is why nothing is counted any more, or nil. Some faults never pass by themselves.
func (h *health) failing() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, final := range []error{errLogLost, errOtherCounts, errForeign, errFormat, window.ErrOtherWindows} {
		if errors.Is(h.err, final) {
			return fmt.Errorf("analytics stands still: %w", h.err)
		}
	}
	if h.err != nil && time.Since(h.since) >= patient {
		return fmt.Errorf("analytics has failed for %s: %w", time.Since(h.since).Round(time.Second), h.err)
	}
	return nil
}
