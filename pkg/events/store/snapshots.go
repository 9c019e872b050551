package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// Snapshots is the disposable cache of folded state: named blobs of any size, each replaced as a whole. Whoever loses it folds the log again.
//
// Blobs are written by the client library and read here, piece by piece. The library's own reader is a consumer of the pieces, which waits until its deadline for pieces that another process replaced
// after it had read the description.
type Snapshots struct {
	bucket jetstream.ObjectStore
	stream jetstream.Stream // what the bucket is made of
	pieces *asker           // of the same stream
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
	return &Snapshots{bucket: opened, stream: stream, pieces: newAsker(js, "OBJ_"+bucket), name: bucket}, nil
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
		return nil, fmt.Errorf("get snapshot %s/%s: %w", s.name, name, err)
	}
	return data, nil
}

// Delete removes a blob; one that is not there counts as removed. The client's own Delete would leave a marker for ever.
func (s *Snapshots) Delete(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	info, err := s.describe(ctx, name)
	if notFound(err) {
		return nil
	}
	if err == nil { // the description first: a blob without one is not there
		err = s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.descriptionOf(name)))
	}
	if err == nil {
		err = s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.piecesOf(info)))
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s/%s: %w", s.name, name, err)
	}
	return nil
}

// The subjects of an object store's messages (NATS ADR-20).
func (s *Snapshots) descriptionOf(name string) string {
	return "$O." + s.name + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

func (s *Snapshots) piecesOf(info jetstream.ObjectInfo) string {
	return "$O." + s.name + ".C." + info.NUID
}

// describe reads a blob's description, as the leader knows it. Wraps [ErrNotFound].
func (s *Snapshots) describe(ctx context.Context, name string) (jetstream.ObjectInfo, error) {
	var info jetstream.ObjectInfo
	m, err := s.pieces.messages.FromLeader(ctx, lookup.Request{LastBySubject: s.descriptionOf(name)})
	switch {
	case notFound(err):
		return info, ErrNotFound
	case err != nil:
		return info, err
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return info, fmt.Errorf("%w: its description: %w", ErrNotFound, err)
	}
	if info.Deleted || info.NUID == "" {
		return info, fmt.Errorf("%w: it is deleted", ErrNotFound)
	}
	return info, nil
}

// get reads a blob. One that is replaced meanwhile loses its pieces: then the new one is read.
func (s *Snapshots) get(ctx context.Context, name string) ([]byte, error) {
	info, err := s.describe(ctx, name)
	for err == nil {
		data, broken := s.assemble(ctx, info)
		if !notFound(broken) {
			return data, broken
		}
		before := info.NUID
		if info, err = s.describe(ctx, name); err == nil && info.NUID == before {
			return nil, broken
		}
	}
	return nil, err
}

// assemble reads all pieces of a blob. Wraps [ErrNotFound] where they are not what the description says.
func (s *Snapshots) assemble(ctx context.Context, info jetstream.ObjectInfo) ([]byte, error) {
	data := make([]byte, 0, min(info.Size, maxAllocated))
	next := uint64(1)
	for i := range info.Chunks {
		m, err := s.pieces.oneMessage(ctx, lookup.Request{Sequence: next, NextBySubject: s.piecesOf(info)})
		if err != nil {
			return nil, fmt.Errorf("piece %d of %d: %w", i+1, info.Chunks, err)
		}
		data = append(data, m.Data...)
		next = m.Sequence + 1
	}
	sum := sha256.Sum256(data)
	if digest := "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:]); digest != info.Digest {
		return nil, fmt.Errorf("%w: its digest is %s, not %s", ErrNotFound, digest, info.Digest)
	}
	return data, nil
}

// maxAllocated bytes are set aside for a blob at once; more only as its pieces come, whatever its description says.
const maxAllocated = 64 << 20
