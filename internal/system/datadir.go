package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DataFormat is the form of the data directory that this program reads and writes. It rises with each change after which an older program could not read what is there,
// or would harm it; a program that raises it also reads the forms before it.
const DataFormat = 1

// MarkerFile says in the data directory which form it has.
const MarkerFile = "tidemark.json"

// ErrNewerData is wrapped where a newer version of the program has written the data directory.
var ErrNewerData = errors.New("data directory is of a newer version")

// marker is what stands in [MarkerFile].
type marker struct {
	Format    int    `json:"format"`
	WrittenBy string `json:"written_by"` // for people; Format decides
}

// checkDir refuses a data directory that this program can't read. One without a marker is empty, or from before there was one.
func checkDir(dir string) error {
	m, err := readMarker(dir)
	if err != nil {
		return err
	}
	if m.Format > DataFormat {
		return fmt.Errorf("%w: %s has format %d and was written by tidemark %s; this program reads formats up to %d: use that version or a newer one, or another directory (--data)",
			ErrNewerData, dir, m.Format, m.WrittenBy, DataFormat)
	}
	return nil
}

func readMarker(dir string) (marker, error) {
	path := filepath.Join(dir, MarkerFile)
	raw, err := os.ReadFile(path) //nolint:gosec // the data directory is ours
	if errors.Is(err, fs.ErrNotExist) {
		return marker{}, nil
	}
	if err != nil {
		return marker{}, fmt.Errorf("data directory: %w", err)
	}
	var m marker
	if err := json.Unmarshal(raw, &m); err != nil || m.Format < 1 {
		return marker{}, fmt.Errorf("data directory: %s does not say which format it has: %q; it is {\"format\": 1} for this version's own", path, raw)
	}
	return m, nil
}

// markDir notes the format, once the directory is this process's alone. A crash leaves the old marker or the new one.
func markDir(dir, version string) error {
	now := marker{Format: DataFormat, WrittenBy: version}
	if m, err := readMarker(dir); err != nil || m == now {
		return err
	}
	raw, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	next := filepath.Join(dir, MarkerFile+".next")
	if err := os.WriteFile(next, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := os.Rename(next, filepath.Join(dir, MarkerFile)); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}
