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
func standings(ctx context.Context, look client.Config) map[string]client.QueryCounts {
	c, err := client.New(look)
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
func settled(ctx context.Context, look client.Config) map[string]client.QueryCounts {
	now := standings(ctx, look)
	for until := time.Now().Add(lookLongest); now != nil && time.Now().Before(until); {
		if sleep(ctx, lookEvery) != nil {
			break
		}
		next := standings(ctx, look)
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

// behind says what came too late for which query, which of the event times lay behind its watermark, and what is to be done; nothing where nothing came late.
func behind(sent span, before, after map[string]client.QueryCounts) string {
	var late []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		was, is := before[name], after[name]
		n := is.TooLate + is.Partially - was.TooLate - was.Partially
		if n <= 0 {
			continue
		}
		line := fmt.Sprintf("  %s: %d events", name, n)
		if w := was.Watermark; w != nil && sent.first.Before(*w) {
			last := sent.last
			if w.Before(last) {
				last = *w
			}
			line += fmt.Sprintf("; the event times from %s to %s lay behind its watermark when the load began: %s", second(sent.first), second(last), second(*w))
		}
		late = append(late, line)
	}
	if len(late) == 0 || sent.first.IsZero() {
		return ""
	}
	return "late events since the load began, whose windows were gone, by query:\n" + strings.Join(late, "\n") + "\n" +
		"They are kept in LATE. Run tidemark backfill: it publishes the windows that miss them."
}

func second(t time.Time) string { return t.UTC().Format(time.RFC3339) }
