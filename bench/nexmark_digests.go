package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/tidemark/tidemark/bench/nexmark"
)

type digestsCmd struct {
	Sizes []int `default:"100000,1000000,2000000" help:"Numbers of events."`
	Check bool  `help:"Compare the engine, fed from memory event by event and in batches, with what is stored, and write nothing."`
}

// Run computes the digests of the workloads with the oracle, and writes the file that is stored. Nothing of the engine is in them.
func (c *digestsCmd) Run(b *bench) error {
	if c.Check {
		return c.check(b)
	}
	all := make(nexmark.Digests)
	for _, size := range c.Sizes {
		cfg := nexmark.Default(size)
		if err := cfg.Validate(); err != nil {
			return err
		}
		all[size] = cfg.ComputeDigests()
		for _, name := range slices.Sorted(maps.Keys(all[size])) {
			d := all[size][name]
			b.say("%d events, %s: %d results, %d late, %d duplicates", size, name, d.Results.N, d.Late.N, d.Duplicates.N)
		}
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	out, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "bench/nexmark/digests.json"), append(out, '\n'), 0o644) //nolint:gosec // to be read by all
}

func (c *digestsCmd) check(b *bench) error {
	stored, err := nexmark.StoredDigests()
	if err != nil {
		return err
	}
	for _, size := range c.Sizes {
		cfg := nexmark.Default(size)
		log := cfg.Log()
		times := cfg.Stored(log)
		for _, q := range nexmark.Queries() {
			for _, batch := range []int{0, 1000, 100_000} {
				got, err := cfg.Stream(&q, log, times, batch)
				if err != nil {
					return err
				}
				if got.Digest() != stored[size][q.Name] {
					return fmt.Errorf("%s of %d events in batches of %d: %+v, stored is %+v", q.Name, size, batch, got.Digest(), stored[size][q.Name])
				}
			}
			b.say("%d events, %s: as stored, event by event and in batches of 1,000 and 100,000", size, q.Name)
		}
	}
	return nil
}
