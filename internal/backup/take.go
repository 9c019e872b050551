package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// ErrNotEmpty is wrapped where a backup would be written over something.
var ErrNotEmpty = errors.New("the directory is not empty")

// Config says what to back up.
type Config struct {
	JS       jetstream.JetStream
	Topology events.Topology
	Version  string        // of this program, for people
	Settle   time.Duration // how long to wait until the groups have done what they have in hand; default 5 s
	Progress io.Writer     // is told what goes on; nil: nobody
}

func (c Config) withDefaults() Config {
	if c.Settle <= 0 {
		c.Settle = settleTime
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

// tries is how often a stream is read that loses messages meanwhile.
const tries = 5

// taker takes one backup.
type taker struct {
	cfg   Config
	dir   string
	held  *hold
	took  time.Duration // the groups stood still for so long
	gate  chan struct{} // closed when the broker may send what is not held
	begun map[string]*taking
	done  map[string]Stream
}

// Take backs up into a directory that is empty or not there. When it returns an error, the directory holds no backup, and the groups go on.
func Take(ctx context.Context, cfg Config, dir string) (m *Manifest, err error) {
	cfg = cfg.withDefaults()
	list, err := items(&cfg.Topology)
	if err != nil {
		return nil, err
	}
	if err := makeEmpty(dir); err != nil {
		return nil, err
	}
	for _, i := range list {
		if _, err := cfg.JS.Stream(ctx, i.name); err != nil {
			return nil, fmt.Errorf("back up %s: %w", i.name, err)
		}
	}
	ctx, cancel := context.WithCancel(ctx) // of two snapshots at once the second ends when the first fails
	defer cancel()
	t := &taker{cfg: cfg, dir: dir, gate: make(chan struct{}), begun: make(map[string]*taking), done: make(map[string]Stream)}
	defer func() {
		cancel()
		for _, b := range t.begun {
			<-b.done
		}
	}()
	m = &Manifest{
		Format: Format, ID: events.NewID(), WrittenBy: cfg.Version, Server: cfg.JS.Conn().ConnectedServerVersion(), Topology: events.TopologyVersion,
		Partitions: cfg.Topology.Partitions, Began: time.Now().UTC(),
	}
	if t.held, err = holdGroups(ctx, cfg.JS, cfg.Topology.Groups, cfg.Settle); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.held.release(ctx)) }()
	m.At, m.Floors, m.Settled = time.Now().UTC(), t.held.floors, t.held.settled
	if !m.Settled {
		fmt.Fprintf(cfg.Progress, "a group has had events in hand for %s; it will handle them again after a restore\n", cfg.Settle)
	}
	if err := t.run(ctx, list); err != nil {
		return nil, err
	}
	for _, i := range list {
		m.Streams = append(m.Streams, t.done[i.name])
	}
	for _, b := range cfg.Topology.Buckets {
		if b.Cache {
			m.Skipped = append(m.Skipped, bus.BucketStream(b))
		}
	}
	m.HeldMS, m.Ended = t.took.Milliseconds(), time.Now().UTC()
	slices.SortFunc(m.Floors, func(a, b Floor) int { return strings.Compare(a.Consumer, b.Consumer) })
	return m, m.write(dir)
}

func makeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s holds %s; name one that is empty or not there", ErrNotEmpty, dir, entries[0].Name())
	}
	return nil
}

// run begins the snapshots in their order, lets the groups go on when those have begun that belong to one moment, and waits for the rest.
func (t *taker) run(ctx context.Context, list []item) error {
	var stay []string
	for _, i := range list {
		if err := t.begin(ctx, i); err != nil {
			return err
		}
		if i.stills != "" {
			stay = append(stay, i.stills)
		}
		if i.held {
			if err := t.finish(ctx, i); err != nil {
				return err
			}
		}
		if i.name == lastHeld {
			if err := t.held.letGo(ctx, stay...); err != nil {
				return err
			}
			close(t.gate)
			t.took = time.Since(t.held.began)
			fmt.Fprintf(t.cfg.Progress, "the groups stood still for %s\n", t.took.Round(time.Millisecond))
		}
	}
	for _, first := range []bool{true, false} {
		for _, i := range list {
			if _, ok := t.done[i.name]; ok || (i.stills != "") != first {
				continue
			}
			if err := t.finish(ctx, i); err != nil {
				return err
			}
		}
		if err := t.held.letGo(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *taker) begin(ctx context.Context, i item) error {
	var gate chan struct{}
	if !i.held {
		gate = t.gate
	}
	b, err := begin(ctx, t.cfg.JS.Conn(), i.name, filepath.Join(t.dir, streamsDir, i.name), gate)
	if err != nil {
		return err
	}
	t.begun[i.name] = b
	return nil
}

// finish waits for a stream's snapshot. One that must be whole and is not is taken again, some times.
func (t *taker) finish(ctx context.Context, i item) error {
	for try := 1; ; try++ {
		s, err := t.begun[i.name].finish(ctx, i.name)
		if err != nil {
			return err
		}
		if i.whole && s.Missing > 0 && try < tries {
			if err := t.begin(ctx, i); err != nil {
				return err
			}
			continue
		}
		t.done[i.name] = s
		fmt.Fprintf(t.cfg.Progress, "%-12s %9d messages, %8.1f MB\n", i.name, s.Messages, float64(s.Bytes)/1e6)
		return nil
	}
}
