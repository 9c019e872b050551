package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The files of one stream, as `nats stream backup` names them.
const (
	settingsFile = "backup.json"
	dataFile     = "stream.arc.s2"
)

const (
	requestTimeout = 10 * time.Second
	stallTimeout   = 30 * time.Second // a broker that sends nothing for so long is gone
	window         = 2 << 20          // bytes that the broker sends ahead of acknowledgements
	gateTime       = 3 * time.Second  // it gives up when none comes for 5 s
)

// settings are what the broker says of a stream when a snapshot begins: what a restore gives back.
type settings struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// taking is a snapshot on its way. What it holds was fixed when it began; the broker sends it until done is closed.
type taking struct {
	settings

	state   jetstream.StreamState
	sourced bool // the stream copies others

	began time.Time
	dir   string
	bytes atomic.Int64
	done  chan struct{}
	err   error // valid when done is closed
}

// begin asks for a snapshot of a stream into a directory of its own, and returns when the broker has fixed what is in it. Until the gate is closed, or for some seconds, the broker sends no
// more than it may send ahead: it has better things to do while groups stand still.
func begin(ctx context.Context, nc *nats.Conn, stream, dir string, gate <-chan struct{}) (*taking, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("back up %s: %w", stream, err)
	}
	file, err := os.OpenFile(filepath.Join(dir, dataFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, fmt.Errorf("back up %s: %w", stream, err)
	}
	t := &taking{began: time.Now().UTC(), dir: dir, done: make(chan struct{})}
	inbox := nc.NewInbox()
	chunks := make(chan *nats.Msg, 512) // far more than the window has, in chunks of 128 KiB
	sub, err := nc.ChanSubscribe(inbox, chunks)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("back up %s: %w", stream, err), file.Close())
	}
	if err := t.request(ctx, nc, stream, inbox); err != nil {
		return nil, errors.Join(fmt.Errorf("back up %s: %w", stream, err), sub.Unsubscribe(), file.Close())
	}
	go func() {
		defer close(t.done)
		await(ctx, gate)
		err := t.receive(ctx, nc, chunks, file)
		if t.err = errors.Join(err, sub.Unsubscribe(), file.Sync(), file.Close()); t.err != nil {
			t.err = fmt.Errorf("back up %s: %w", stream, t.err)
		}
	}()
	return t, nil
}

// apiError is how the broker refuses.
type apiError struct {
	Error *jetstream.APIError `json:"error,omitempty"`
}

func (t *taking) request(ctx context.Context, nc *nats.Conn, stream, inbox string) error {
	var answer struct {
		apiError
		settings
	}
	if err := ask(ctx, nc, "$JS.API.STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": inbox, "window_size": window}, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	t.settings = answer.settings
	var config jetstream.StreamConfig
	err := errors.Join(json.Unmarshal(t.State, &t.state), json.Unmarshal(t.Config, &config))
	t.sourced = len(config.Sources) > 0
	return err
}

func ask(ctx context.Context, nc *nats.Conn, subject string, v, answer any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, subject, raw)
	if err != nil {
		return err
	}
	return json.Unmarshal(msg.Data, answer)
}

func await(ctx context.Context, gate <-chan struct{}) {
	if gate == nil {
		return
	}
	limit := time.NewTimer(gateTime)
	defer limit.Stop()
	select {
	case <-gate:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// receive writes the chunks to the file and acknowledges each, until the one that ends them.
func (t *taking) receive(ctx context.Context, nc *nats.Conn, chunks <-chan *nats.Msg, file *os.File) error {
	stalled := time.NewTimer(stallTimeout)
	defer stalled.Stop()
	for {
		var m *nats.Msg
		select {
		case m = <-chunks:
		case <-stalled.C:
			return fmt.Errorf("the broker sent nothing for %s", stallTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
		stalled.Reset(stallTimeout)
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("the broker gave up: %s %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		n, err := file.Write(m.Data)
		t.bytes.Add(int64(n))
		if err != nil {
			return err
		}
		if m.Reply == "" {
			continue
		}
		if err := nc.Publish(m.Reply, nil); err != nil {
			return err
		}
	}
}

// finish waits for the rest, looks whether the archive is whole, and writes the settings beside it.
func (t *taking) finish(ctx context.Context, name string) (Stream, error) {
	select {
	case <-t.done:
	case <-ctx.Done():
		<-t.done // it ends with the context, too
	}
	if t.err != nil {
		return Stream{}, t.err
	}
	path := filepath.Join(t.dir, dataFile)
	read := inspect
	if t.sourced {
		read = forgetOrigins
	}
	got, err := read(path)
	if err != nil {
		return Stream{}, fmt.Errorf("back up %s: %w", name, err)
	}
	s := Stream{
		Name: name, Messages: got.messages, First: t.state.FirstSeq, Last: t.state.LastSeq, Consumers: got.consumers, Began: t.began,
		Missing: t.state.Msgs - min(t.state.Msgs, got.messages),
	}
	raw, err := json.MarshalIndent(t.settings, "", "  ")
	if err != nil {
		return Stream{}, fmt.Errorf("back up %s: %w", name, err)
	}
	beside := filepath.Join(t.dir, settingsFile)
	if err := writeSynced(beside, raw); err != nil {
		return Stream{}, fmt.Errorf("back up %s: %w", name, err)
	}
	if s.Settings, err = digest(beside); err != nil {
		return Stream{}, fmt.Errorf("back up %s: %w", name, err)
	}
	if s.SHA256, err = digest(path); err != nil {
		return Stream{}, fmt.Errorf("back up %s: %w", name, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Stream{}, fmt.Errorf("back up %s: %w", name, err)
	}
	s.Bytes = info.Size()
	return s, nil
}
