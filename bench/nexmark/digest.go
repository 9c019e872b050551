package nexmark

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Digest stands for an answer.
type Digest struct {
	Results    Lines `json:"results"`
	Late       Lines `json:"late"`
	Duplicates Lines `json:"duplicates"`
}

// Lines stand for lines, whatever their order.
type Lines struct {
	N      int    `json:"n"`
	SHA256 string `json:"sha256"`
}

// Digest of the answer.
func (a *Answer) Digest() Digest {
	return Digest{Results: linesOf(a.Results), Late: linesOf(a.Late), Duplicates: linesOf(a.Duplicates)}
}

func linesOf(lines []string) Lines {
	hash := sha256.New()
	for _, line := range slices.Sorted(slices.Values(lines)) {
		hash.Write([]byte(line)) //nolint:errcheck // never fails
		hash.Write([]byte{'\n'}) //nolint:errcheck // never fails
	}
	return Lines{N: len(lines), SHA256: hex.EncodeToString(hash.Sum(nil))}
}

// Digests are by number of events, then query.
type Digests map[int]map[string]Digest

//go:embed digests.json
var stored []byte

// StoredDigests are those of [Default] workloads, computed by [Config.Batch] over the store times of [Config.Stored]: `go run ./bench nexmark digests` makes them. That of q12 holds for
// those store times only; a run through a broker has others, and is compared with a batch over them.
func StoredDigests() (Digests, error) {
	var all Digests
	if err := json.Unmarshal(stored, &all); err != nil {
		return nil, fmt.Errorf("nexmark: digests.json: %w", err)
	}
	return all, nil
}

// ComputeDigests computes those of one workload.
func (c Config) ComputeDigests() map[string]Digest {
	log := c.Log()
	times := c.Stored(log)
	all := make(map[string]Digest)
	for _, q := range Queries() {
		a := c.Batch(&q, log, times)
		all[q.Name] = a.Digest()
	}
	return all
}
