package program

import (
	"os"
	"runtime/debug"
	"time"
)

// gcPercent is how much a service's heap may grow before it is collected, in percent of what is in use. A service holds little and makes much garbage: with Go's 100 the
// collector takes a fifth of its time. What it costs is memory: at most five times of what is in use, where 100 allows twice. What is gained shows `go run ./bench orders`, with GOGC=100 and without.
const gcPercent = 400

// settleTime is when a service has begun to work, and gives back the memory that only its start needed: an idle service is small, whatever it may spend when it is busy.
const settleTime = 2 * time.Second

// SpendMemory lets the process of a service collect garbage less often. The variables GOGC and GOMEMLIMIT say otherwise.
func SpendMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
