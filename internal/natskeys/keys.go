// Package natskeys is who the users of the broker are: a key pair (nkey) each. The seed is a file that its user alone reads, and the server knows the public key, so
// there is no secret in the server's configuration. What each may do is declared in pkg/events.
package natskeys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
)

// Dir is the name of the directory of seeds in a data directory.
const Dir = "keys"

// File is where the seed of a user is.
func File(dir, user string) string { return filepath.Join(dir, user+".nk") }

// Ensure makes the seeds that are missing and returns the public key of every user. A seed that is there stays.
func Ensure(dir string, users ...string) (map[string]string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	public := make(map[string]string, len(users))
	for _, user := range users {
		key, err := ensure(dir, user)
		if err != nil {
			return nil, fmt.Errorf("key of %s: %w", user, err)
		}
		public[user] = key
	}
	return public, nil
}

func ensure(dir, user string) (public string, err error) {
	path := File(dir, user)
	public, err = Public(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return public, err
	}
	if err := create(dir, path); err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been faster: then its key is the user's
		return "", err
	}
	return Public(path)
}

// create writes a new seed. It appears whole or not at all, and never in place of another.
func create(dir, path string) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(dir, ".seed-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(next.Name()) }() // it has another name by now, or is of no use
	_, err = next.Write(append(seed, '\n'))
	if err = errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	if err = os.Link(next.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return os.Rename(next.Name(), path) // a file system without links
	}
	return err
}

// Public is the public key of a seed's file.
func Public(path string) (string, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the file that the operator names
	if err != nil {
		return "", err
	}
	defer clear(raw)
	pair, err := nkeys.ParseDecoratedUserNKey(bytes.TrimSpace(raw))
	if err != nil {
		return "", fmt.Errorf("%s holds no seed of a user (one line that begins with SU): %w", path, err)
	}
	defer pair.Wipe()
	return pair.PublicKey()
}
