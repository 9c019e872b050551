package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Format is the form of a backup that this program writes. It rises with each change after which an older program would restore it wrongly.
const Format = 1

// What lies in the directory of a backup. The streams have one of their own, since natscli restores directories that hold nothing else.
const (
	manifestFile = "manifest.json"
	streamsDir   = "streams"
)

var (
	// ErrNoBackup is wrapped where a directory holds no backup, or one that was not finished.
	ErrNoBackup = errors.New("no backup")
	// ErrDamaged is wrapped where a backup is not what its manifest says.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrNewer is wrapped where a newer program has taken the backup.
	ErrNewer = errors.New("the backup is of a newer version")
)

// Manifest says what a backup holds. It is written last: a directory without one holds none.
type Manifest struct {
	Format     int       `json:"format"`
	ID         string    `json:"id"`
	WrittenBy  string    `json:"written_by"`
	Server     string    `json:"server"` // version of the broker; an older one may not read what it wrote
	Topology   int       `json:"topology"`
	Partitions int       `json:"partitions"`
	Began      time.Time `json:"began"`
	// At is the moment that the backup is of: what was stored before it is in it.
	At      time.Time `json:"at"`
	Ended   time.Time `json:"ended"`
	HeldMS  int64     `json:"held_ms"`           // how long the groups stood still
	Settled bool      `json:"settled"`           // whether what they had in hand was done before; where not, it is done again after a restore
	Floors  []Floor   `json:"floors"`            // where the groups stood
	Streams []Stream  `json:"streams"`           // in the order in which they were taken
	Skipped []string  `json:"skipped,omitempty"` // buckets that are made again from the logs
}

// Floor is the committed offset of one partition of a group before the first snapshot.
type Floor struct {
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	Sequence uint64 `json:"sequence"`
}

// Stream is one stream of a backup: a directory in the form of `nats stream backup`.
type Stream struct {
	Name      string    `json:"name"`
	Messages  uint64    `json:"messages"`
	First     uint64    `json:"first_seq"`
	Last      uint64    `json:"last_seq"`
	Consumers int       `json:"consumers"`
	Began     time.Time `json:"began"`
	Bytes     int64     `json:"bytes"` // of the archive
	SHA256    string    `json:"sha256"`
	Settings  string    `json:"settings_sha256"`   // of backup.json
	Missing   uint64    `json:"missing,omitempty"` // messages that were replaced or deleted while the stream was read
}

// Bytes is the size of the archives.
func (m *Manifest) Bytes() int64 {
	var sum int64
	for _, s := range m.Streams {
		sum += s.Bytes
	}
	return sum
}

// Messages is how many messages all streams hold.
func (m *Manifest) Messages() uint64 {
	var sum uint64
	for _, s := range m.Streams {
		sum += s.Messages
	}
	return sum
}

// stream finds a stream by name.
func (m *Manifest) stream(name string) (Stream, bool) {
	for _, s := range m.Streams {
		if s.Name == name {
			return s, true
		}
	}
	return Stream{}, false
}

// Open reads a backup's manifest and checks that this program can restore it.
func Open(dir string) (*Manifest, error) {
	raw, err := os.ReadFile(filepath.Join(dir, manifestFile)) //nolint:gosec // the operator names the directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no %s; it is written last, so a backup without one was not finished", ErrNoBackup, dir, manifestFile)
	}
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil || m.Format < 1 {
		return nil, fmt.Errorf("%w: %s can't be read: %w", ErrDamaged, filepath.Join(dir, manifestFile), err)
	}
	if m.Format > Format {
		return nil, fmt.Errorf("%w: %s has format %d and was written by tidemark %s; this program reads formats up to %d", ErrNewer, dir, m.Format, m.WrittenBy, Format)
	}
	return &m, nil
}

// Verify reads every file of a backup and compares it with the manifest. It reports every file that differs, joined.
func (m *Manifest) Verify(dir string) error {
	var errs []error
	for _, s := range m.Streams {
		for _, f := range []struct{ name, want string }{{settingsFile, s.Settings}, {dataFile, s.SHA256}} {
			path := filepath.Join(dir, streamsDir, s.Name, f.name)
			got, err := digest(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				errs = append(errs, fmt.Errorf("%w: %s is missing", ErrDamaged, path))
			case err != nil:
				errs = append(errs, fmt.Errorf("verify backup: %w", err))
			case got != f.want:
				errs = append(errs, fmt.Errorf("%w: %s is not what was written: its SHA-256 differs from the manifest's", ErrDamaged, path))
			}
		}
	}
	return errors.Join(errs...)
}

func digest(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// write stores the manifest so that it is there whole or not at all, and what it names is on the disk before it.
func (m *Manifest) write(dir string) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	next := filepath.Join(dir, manifestFile+".next")
	if err := writeSynced(next, append(raw, '\n')); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := os.Rename(next, filepath.Join(dir, manifestFile)); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}
