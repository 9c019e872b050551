package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Snapshots is the disposable cache of folded state: named blobs of any size, each replaced as a whole. Whoever loses it folds the log again.
type Snapshots struct {
	bucket jetstream.ObjectStore
	name   string
}

// NewSnapshots opens the bucket.
func NewSnapshots(ctx context.Context, js jetstream.JetStream, bucket string) (*Snapshots, error) {
	opened, err := js.ObjectStore(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", bucket, err)
	}
	return &Snapshots{bucket: opened, name: bucket}, nil
}

// Put stores a blob under the name. A reader sees the blob before or this one, never a mixture.
func (s *Snapshots) Put(ctx context.Context, name string, data []byte) error {
	if _, err := s.bucket.PutBytes(ctx, name, data); err != nil {
		return fmt.Errorf("put snapshot %s/%s: %w", s.name, name, err)
	}
	return nil
}

// Get reads a blob. Wraps [ErrNotFound]; a blob that is damaged counts as not there.
func (s *Snapshots) Get(ctx context.Context, name string) ([]byte, error) {
	data, err := s.get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("get snapshot %s/%s: %w", s.name, name, err)
	}
	return data, nil
}

func (s *Snapshots) get(ctx context.Context, name string) ([]byte, error) {
	object, err := s.bucket.Get(ctx, name)
	if err != nil {
		return nil, missing(err)
	}
	defer func() { _ = object.Close() }() // read only
	data, err := io.ReadAll(object)
	if err != nil {
		return nil, missing(err)
	}
	return data, nil
}

// missing says of the errors that tell of a blob which is absent or damaged that they are [ErrNotFound].
func missing(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound), errors.Is(err, jetstream.ErrNoObjectsFound),
		errors.Is(err, jetstream.ErrDigestMismatch), errors.Is(err, jetstream.ErrBadObjectMeta), errors.Is(err, jetstream.ErrInvalidDigestFormat),
		errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
