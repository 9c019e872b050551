package window

// Coalesce keeps of the results of many events what is left to say once all are applied: the last one of each key and window, in their order. A window that
// came out and was retracted again within them is left out. With it a micro-batch gives the same values, late events and duplicates as event by event, and
// fewer results in between, so revisions may skip numbers.
//
// It works in place, as slices.Compact does.
func Coalesce(results []Result) []Result {
	type place struct {
		key string
		Window
	}
	if len(results) < 2 {
		return results
	}
	last := make(map[place]int, len(results))
	unseen := make(map[place]bool) // nobody knows of it yet
	for i, r := range results {
		at := place{r.Key, r.Window}
		last[at] = i
		if r.Revision == 1 {
			unseen[at] = true
		}
	}
	kept := results[:0]
	for i, r := range results {
		at := place{r.Key, r.Window}
		if last[at] == i && !(r.Timing == Retract && unseen[at]) {
			kept = append(kept, r)
		}
	}
	clear(results[len(kept):])
	return kept
}
