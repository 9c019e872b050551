package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Snapshots is the disposable cache of folded state: named blobs of any size, each replaced as a whole. Whoever loses it folds the log again.
type Snapshots struct {
	bucket jetstream.ObjectStore
	stream jetstream.Stream // what the bucket is made of
	name   string
}

// snapshotTimeout is for callers whose context has no deadline: the client would give up after 5 s, too soon for a big blob.
const snapshotTimeout = 2 * time.Minute

// NewSnapshots opens the bucket.
func NewSnapshots(ctx context.Context, js jetstream.JetStream, bucket string) (*Snapshots, error) {
	opened, err := js.ObjectStore(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", bucket, err)
	}
	stream, err := js.Stream(ctx, "OBJ_"+bucket)
	if err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", bucket, err)
	}
	return &Snapshots{bucket: opened, stream: stream, name: bucket}, nil
}

// Put stores a blob under the name. A reader sees the blob before or this one, never a mixture.
func (s *Snapshots) Put(ctx context.Context, name string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	if _, err := s.bucket.PutBytes(ctx, name, data); err != nil {
		return fmt.Errorf("put snapshot %s/%s: %w", s.name, name, err)
	}
	return nil
}

// Get reads a blob. Wraps [ErrNotFound]; a blob that is damaged counts as not there.
func (s *Snapshots) Get(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	data, err := s.get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("get snapshot %s/%s: %w", s.name, name, missing(err))
	}
	return data, nil
}

// Delete removes a blob; one that is not there counts as removed. The client's own Delete would leave a marker for ever.
func (s *Snapshots) Delete(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	info, err := s.bucket.GetInfo(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	if err == nil { // the description first: a blob without one is not there
		err = s.stream.Purge(ctx, jetstream.WithPurgeSubject("$O."+s.name+".M."+base64.URLEncoding.EncodeToString([]byte(name)))) // NATS ADR-20, as below
	}
	if err == nil {
		err = s.stream.Purge(ctx, jetstream.WithPurgeSubject("$O."+s.name+".C."+info.NUID))
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s/%s: %w", s.name, name, err)
	}
	return nil
}

func (s *Snapshots) get(ctx context.Context, name string) ([]byte, error) {
	info, err := s.bucket.GetInfo(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := s.complete(ctx, info); err != nil {
		return nil, err
	}
	object, err := s.bucket.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = object.Close() }() // read only
	data := bytes.NewBuffer(make([]byte, 0, info.Size+bytes.MinRead))
	if _, err := data.ReadFrom(object); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}

// errIncomplete: the bucket holds fewer pieces than the blob had.
var errIncomplete = errors.New("pieces are missing")

// complete counts the blob's pieces: the client waits until its deadline for the first piece where there is none.
func (s *Snapshots) complete(ctx context.Context, info *jetstream.ObjectInfo) error {
	if info.Chunks == 0 {
		return nil
	}
	subject := "$O." + s.name + ".C." + info.NUID // part of the object store's format (NATS ADR-20)
	now, err := s.stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return fmt.Errorf("count pieces: %w", err)
	}
	if stored := now.State.Subjects[subject]; stored != uint64(info.Chunks) {
		return fmt.Errorf("%w: %d of %d are stored", errIncomplete, stored, info.Chunks)
	}
	return nil
}

// missing says of the errors that tell of a blob which is absent or damaged that they are [ErrNotFound].
func missing(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound), errors.Is(err, jetstream.ErrNoObjectsFound),
		errors.Is(err, jetstream.ErrDigestMismatch), errors.Is(err, jetstream.ErrBadObjectMeta), errors.Is(err, jetstream.ErrInvalidDigestFormat),
		errors.Is(err, errIncomplete):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
