package load

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/internal/client"
)

// What is older than analytics' watermark is late when it comes, however fast it is sent: history that is loaded into a live system is. It is kept, and
// in no window until it is backfilled. So a load looks at analytics before it sends and after, and says so.

const (
	lookEvery   = 250 * time.Millisecond
	lookLongest = 10 * time.Second // for analytics to come to the end of what was sent
)

// span is the event times of what was accepted.
type span struct{ first, last time.Time }

func (p *span) add(t time.Time) {
	if p.first.IsZero() || t.Before(p.first) {
		p.first = t
	}
	if t.After(p.last) {
		p.last = t
	}
}

// standings is where analytics' queries stand, by name; nil where analytics does not answer, which is no reason not to load.
func standings(ctx context.Context, api string) map[string]client.QueryCounts {
	c, err := client.New(client.Config{URL: api, Patience: time.Nanosecond})
	if err != nil {
		return nil
	}
	defer c.Close()
	windows, err := c.Projection(ctx, client.ProjectionWindows)
	if err != nil {
		return nil
	}
	by := make(map[string]client.QueryCounts, len(windows.Queries))
	for _, q := range windows.Queries {
		by[q.Query] = q
	}
	return by
}

// settled is where the queries stand when they read nothing more, or after a while.
func settled(ctx context.Context, api string) map[string]client.QueryCounts {
	now := standings(ctx, api)
	for until := time.Now().Add(lookLongest); now != nil && time.Now().Before(until); {
		if sleep(ctx, lookEvery) != nil {
			break
		}
		next := standings(ctx, api)
		quiet := reads(next) == reads(now)
		now = next
		if quiet {
			break
		}
	}
	return now
}

func reads(by map[string]client.QueryCounts) (n int64) {
	for _, q := range by {
		n += q.Read
	}
	return n
}

// behind says in sentences what came late and why; nothing where nothing did.
func behind(sent span, before, after map[string]client.QueryCounts) string {
	var late []string
	var watermark time.Time // the furthest of those queries, before the load
	for _, name := range slices.Sorted(maps.Keys(after)) {
		n := after[name].Late - before[name].Late
		if n <= 0 {
			continue
		}
		late = append(late, fmt.Sprintf("%s %d", name, n))
		if w := before[name].Watermark; w != nil && w.After(watermark) {
			watermark = *w
		}
	}
	if len(late) == 0 || sent.first.IsZero() {
		return ""
	}
	text := "late events since the load began, by query: " + strings.Join(late, ", ") + ".\n"
	if sent.first.Before(watermark) {
		last := sent.last
		if watermark.Before(last) {
			last = watermark
		}
		text += fmt.Sprintf("Event times from %s to %s lay behind the watermark of analytics when it began: %s.\n", second(sent.first), second(last), second(watermark))
	}
	return text + "They are kept in LATE, and are not in the windows that they missed."
}

func second(t time.Time) string { return t.UTC().Format(time.RFC3339) }
