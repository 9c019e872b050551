package httpapi

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// maxCallers is how many callers are remembered; the one that has asked longest ago is forgotten first, and begins anew.
const maxCallers = 10_000

// callers limits the rate of each caller's requests: for long at the rate, and twice a second's worth at once.
type callers struct {
	limit rate.Limit
	burst int

	mu    sync.Mutex
	known *lru.Cache[string, *rate.Limiter]
}

// newCallers is nil where there is no limit.
func newCallers(perSecond float64) *callers {
	known, err := lru.New[string, *rate.Limiter](maxCallers)
	if err != nil || perSecond <= 0 { // err: a size below 1
		return nil
	}
	return &callers{limit: rate.Limit(perSecond), burst: max(1, int(2*perSecond)), known: known}
}

// take counts a request of the caller. It returns how long the caller should wait when it has none left, and 0 when it may go on.
func (c *callers) take(caller string) time.Duration {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	limiter, ok := c.known.Get(caller)
	if !ok {
		limiter = rate.NewLimiter(c.limit, c.burst)
		c.known.Add(caller, limiter)
	}
	c.mu.Unlock()
	r := limiter.Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}
