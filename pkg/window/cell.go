package window

import (
	"cmp"
	"slices"
	"strings"
)

// cell is what the events of one key amount to, over one span or session.
type cell struct {
	count int64
	value Accumulator
}

func (c *cell) add(event []Part) {
	c.count++
	c.value.Add(event)
}

func (c *cell) merge(o *cell) {
	c.count += o.count
	c.value.Merge(o.value)
}

func (c *cell) result(key string, w Window, revision int, timing Timing) Result {
	return Result{Key: key, Window: w, Count: c.count, Value: c.value.Value(), Revision: revision, Timing: timing}
}

// sortResults puts them into the order in which windows fire: by end, start, key.
func sortResults(results []Result) {
	slices.SortFunc(results, func(a, b Result) int {
		return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Start, b.Start), strings.Compare(a.Key, b.Key))
	})
}
