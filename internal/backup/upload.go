package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	chunkSize    = 128 << 10
	chunkTimeout = time.Minute
	unheardTries = 40 // the broker gives up after 5 s
	unheardWait  = 100 * time.Millisecond
	storeTimeout = 30 * time.Minute // the broker answers the end of the archive when it has stored all of it
)

// readSettings is the configuration of a stream as it was backed up.
func readSettings(dir, stream string) (jetstream.StreamConfig, error) {
	var s settings
	var config jetstream.StreamConfig
	raw, err := os.ReadFile(filepath.Join(dir, streamsDir, stream, settingsFile)) //nolint:gosec // the operator names the directory
	if err != nil {
		return config, fmt.Errorf("restore %s: %w", stream, err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return config, fmt.Errorf("restore %s: %w: %s: %w", stream, ErrDamaged, settingsFile, err)
	}
	if err := json.Unmarshal(s.Config, &config); err != nil || config.Name != stream {
		return config, fmt.Errorf("restore %s: %w: %s is of stream %q: %w", stream, ErrDamaged, settingsFile, config.Name, err)
	}
	return config, nil
}

// upload sends an archive to the broker, which makes the stream of it.
func upload(ctx context.Context, nc *nats.Conn, dir string, config jetstream.StreamConfig) (jetstream.StreamState, error) {
	var none jetstream.StreamState
	file, err := os.Open(filepath.Join(dir, streamsDir, config.Name, dataFile)) //nolint:gosec // the operator names the directory
	if err != nil {
		return none, err
	}
	defer func() { _ = file.Close() }() // read only
	var begun struct {
		apiError
		Subject string `json:"deliver_subject"`
	}
	if err := ask(ctx, nc, "$JS.API.STREAM.RESTORE."+config.Name, map[string]any{"config": config, "state": none}, &begun); err != nil {
		return none, err
	}
	if begun.Error != nil {
		return none, begun.Error
	}
	chunk := make([]byte, min(chunkSize, nc.MaxPayload()))
	for {
		n, err := io.ReadFull(file, chunk)
		if n > 0 {
			if _, err := send(ctx, nc, begun.Subject, chunk[:n], chunkTimeout); err != nil {
				return none, err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return none, err
		}
	}
	answer, err := send(ctx, nc, begun.Subject, nil, storeTimeout)
	if err != nil {
		return none, err
	}
	var made struct {
		State jetstream.StreamState `json:"state"`
	}
	return made.State, json.Unmarshal(answer, &made)
}

// send sends one chunk and waits for its acknowledgement, which may be a refusal.
func send(ctx context.Context, nc *nats.Conn, subject string, chunk []byte, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, chunk)
	for tries := 0; errors.Is(err, nats.ErrNoResponders) && tries < unheardTries; tries++ { // another node of the cluster listens, and this one does not know it yet
		select {
		case <-time.After(unheardWait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		m, err = nc.RequestWithContext(ctx, subject, chunk)
	}
	if err != nil {
		return nil, err
	}
	var refused apiError
	if len(m.Data) > 0 && json.Unmarshal(m.Data, &refused) == nil && refused.Error != nil {
		return nil, refused.Error
	}
	return m.Data, nil
}
