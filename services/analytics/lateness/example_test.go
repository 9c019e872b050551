package lateness_test

import (
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
	"github.com/tidemark/tidemark/services/analytics/lateness"
)

// A query counts per minute and does not wait. One event in fifty comes when the log is 20 seconds past the end of its minute.
func Example() {
	meter := lateness.New(0)
	for i := range 1000 {
		overrun := int64(-10_000) // its minute goes on for 10 seconds yet
		if i%50 == 0 {
			overrun = 20_000
		}
		meter.Add(1_700_000_000_000, window.Sample{Valid: true, Overrun: overrun}, window.State{Cells: 3}, 200)
	}
	now := lateness.Setting{Windows: window.Tumbling(time.Minute, 0)}
	advice := lateness.Advise(meter.Sum(), now, lateness.DefaultTarget())
	fmt.Printf("now: %.0f %% on time\n", 100*advice.Now.OnTime)
	fmt.Printf("with a bound of about %s: %.0f %%\n", advice.Proposed.Bound.Round(time.Second), 100*advice.Proposed.OnTime)
	fmt.Printf("values held at most: %d now, %d then\n", advice.Now.Peak.Cells, advice.Proposed.Peak.Cells)
	// Output:
	// now: 98 % on time
	// with a bound of about 20s: 100 %
	// values held at most: 3 now, 6 then
}
