package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

var (
	// ErrNotFree is wrapped where the broker holds streams that a restore would write over.
	ErrNotFree = errors.New("the broker is not empty")
	// ErrRunning is wrapped where services work on the broker.
	ErrRunning = errors.New("services are running")
	// ErrUnfit is wrapped where a backup can't become streams of this program or this broker.
	ErrUnfit = errors.New("the backup does not fit")
)

// RestoreConfig says where to restore to.
type RestoreConfig struct {
	JS       jetstream.JetStream
	Topology events.Topology
	Replicas int           // copies of each stream; default 1
	Replace  bool          // delete the streams that are there
	Deadline time.Duration // what an order gets whose deadline is not in the backup; default 2 minutes
	Progress io.Writer     // is told what goes on; nil: nobody
}

func (c RestoreConfig) withDefaults() RestoreConfig {
	if c.Replicas <= 0 {
		c.Replicas = 1
	}
	if c.Deadline <= 0 {
		c.Deadline = 2 * time.Minute
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

// Restored says what a restore did.
type Restored struct {
	Backup    string    `json:"backup"`
	At        time.Time `json:"at"` // the moment that the system is put back to
	Streams   int       `json:"streams"`
	Messages  uint64    `json:"messages"`
	Removed   []string  `json:"removed,omitempty"` // streams that were there before
	MovedBack int       `json:"moved_back"`        // partitions whose group handles some events once more
	Open      int       `json:"open_orders"`
	Deadlines int       `json:"deadlines"` // open orders that were given one
	TookMS    int64     `json:"took_ms"`
}

// restorer restores one backup.
type restorer struct {
	cfg  RestoreConfig
	dir  string
	m    *Manifest
	list []item
	out  Restored
}

// Restore makes the streams of a backup on a broker that has none. Nothing is changed before everything was looked at that can be wrong. A restore that was interrupted is begun anew by the next one of the same
// backup; until one has ended, no service works on what is there (see [bus.MetadataRestore]).
func Restore(ctx context.Context, cfg RestoreConfig, dir string) (*Restored, error) {
	began := time.Now()
	r, leftovers, err := prepare(ctx, cfg, dir)
	if err != nil {
		return nil, err
	}
	for _, name := range leftovers {
		if err := cfg.JS.DeleteStream(ctx, name); err != nil {
			return nil, fmt.Errorf("remove stream %s: %w", name, err)
		}
		fmt.Fprintf(r.cfg.Progress, "%-12s removed\n", name)
	}
	r.out.Removed = leftovers
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	r.out.TookMS = time.Since(began).Milliseconds()
	return &r.out, nil
}

// Check says whether a backup is whole and can be restored on the broker, and changes nothing. Without a broker it looks at the backup alone.
func Check(ctx context.Context, cfg RestoreConfig, dir string) (*Manifest, error) {
	if cfg.JS == nil {
		m, err := Open(dir)
		if err != nil {
			return nil, err
		}
		return m, m.Verify(dir)
	}
	r, _, err := prepare(ctx, cfg, dir)
	if err != nil {
		return nil, err
	}
	return r.m, nil
}

// prepare looks at everything that can be wrong, and names the streams that have to be removed before.
func prepare(ctx context.Context, cfg RestoreConfig, dir string) (*restorer, []string, error) {
	cfg = cfg.withDefaults()
	m, err := Open(dir)
	if err != nil {
		return nil, nil, err
	}
	r := &restorer{cfg: cfg, dir: dir, m: m, out: Restored{Backup: m.ID, At: m.At, Messages: m.Messages()}}
	if r.list, err = items(&cfg.Topology); err != nil {
		return nil, nil, err
	}
	if err := r.fits(); err != nil {
		return nil, nil, err
	}
	if err := m.Verify(dir); err != nil {
		return nil, nil, err
	}
	leftovers, err := r.room(ctx)
	return r, leftovers, err
}

// fits reports everything about the backup that this program or this broker can't take, joined.
func (r *restorer) fits() error {
	var errs []error
	if r.m.Topology > events.TopologyVersion {
		errs = append(errs, fmt.Errorf("%w: its streams are of topology %d, this program knows %d: use a newer one", ErrUnfit, r.m.Topology, events.TopologyVersion))
	}
	if r.m.Partitions != r.cfg.Topology.Partitions {
		errs = append(errs, fmt.Errorf("%w: it has %d partitions, this program %d", ErrUnfit, r.m.Partitions, r.cfg.Topology.Partitions))
	}
	if here := r.cfg.JS.Conn().ConnectedServerVersion(); older(here, r.m.Server) {
		errs = append(errs, fmt.Errorf("%w: nats-server %s wrote it, and %s may not read it: use that version or a newer one", ErrUnfit, r.m.Server, here))
	}
	for _, i := range r.list {
		if _, ok := r.m.stream(i.name); !ok {
			errs = append(errs, fmt.Errorf("%w: it has no stream %s", ErrUnfit, i.name))
		}
	}
	return errors.Join(errs...)
}

// older compares two versions of the server by their first two numbers: what changes the form of a snapshot.
func older(a, b string) bool {
	var a1, a2, b1, b2 int
	_, errA := fmt.Sscanf(a, "%d.%d", &a1, &a2)
	_, errB := fmt.Sscanf(b, "%d.%d", &b1, &b2)
	return errA == nil && errB == nil && (a1 < b1 || a1 == b1 && a2 < b2)
}

// room looks what is on the broker. Streams of an interrupted restore of this backup are leftovers; others are refused, unless they are to be replaced.
func (r *restorer) room(ctx context.Context) (leftovers []string, err error) {
	all := make([]string, 0, len(r.list)+len(r.cfg.Topology.Buckets))
	for _, i := range r.list {
		all = append(all, i.name)
	}
	for _, b := range r.cfg.Topology.Buckets {
		if b.Cache {
			all = append(all, bus.BucketStream(b))
		}
	}
	ours, full := false, ""
	for _, name := range all {
		s, err := r.cfg.JS.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for stream %s: %w", name, err)
		}
		leftovers = append(leftovers, name)
		info := s.CachedInfo()
		if mark := info.Config.Metadata[bus.MetadataRestore]; mark == r.m.ID {
			ours = true
		}
		if full == "" {
			full = fmt.Sprintf("stream %s is there, with %d messages", name, info.State.Msgs)
		}
	}
	if len(leftovers) == 0 {
		return nil, nil
	}
	if err := r.idle(ctx); err != nil {
		return nil, err
	}
	if !ours && !r.cfg.Replace {
		return nil, fmt.Errorf("%w: %s; restore to an empty one, or remove what is there with --replace", ErrNotFree, full)
	}
	return leftovers, nil
}

// idle refuses where members of a group say that they are there. Those of a process that was killed are forgotten in a few seconds.
func (r *restorer) idle(ctx context.Context) error {
	tick := time.NewTicker(idleStep)
	defer tick.Stop()
	for began := time.Now(); ; {
		group, member, err := r.someMember(ctx)
		if err != nil || member == "" {
			return err
		}
		if time.Since(began) > idleTime {
			return fmt.Errorf("%w: %s is a member of the group %s; stop all services first, they hold in memory what a restore takes back", ErrRunning, member, group)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const (
	idleTime = 5 * time.Second // longer than a dead member is remembered
	idleStep = 250 * time.Millisecond
)

func (r *restorer) someMember(ctx context.Context) (group, member string, err error) {
	members, err := bus.Members(ctx, r.cfg.JS)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return "", "", nil
	}
	for group, list := range members {
		for _, m := range list {
			return group, m.Name, nil
		}
	}
	return "", "", err
}

func (r *restorer) run(ctx context.Context) error {
	for _, copies := range []bool{false, true} { // a stream that copies others comes after them
		for _, i := range r.list {
			set, err := readSettings(r.dir, i.name)
			if err != nil {
				return err
			}
			if len(set.Sources) > 0 != copies {
				continue
			}
			if err := r.stream(ctx, i.name, set); err != nil {
				return err
			}
		}
	}
	if err := r.moveBack(ctx); err != nil {
		return err
	}
	if err := r.deadlines(ctx); err != nil {
		return err
	}
	return r.open(ctx)
}

// stream restores one stream, marked as part of a restore that has not ended.
func (r *restorer) stream(ctx context.Context, name string, config jetstream.StreamConfig) error {
	if config.Metadata == nil {
		config.Metadata = make(map[string]string, 1)
	}
	config.Metadata[bus.MetadataRestore] = r.m.ID
	config.Replicas = r.cfg.Replicas
	state, err := upload(ctx, r.cfg.JS.Conn(), r.dir, config)
	if err != nil {
		return fmt.Errorf("restore %s: %w", name, err)
	}
	want, _ := r.m.stream(name)
	if state.LastSeq < want.Last {
		return fmt.Errorf("restore %s: %w: it ends at %d, the backup at %d", name, ErrDamaged, state.LastSeq, want.Last)
	}
	r.out.Streams++
	fmt.Fprintf(r.cfg.Progress, "%-12s %9d messages\n", name, want.Messages)
	return nil
}

// moveBack puts each group where it stood before the first snapshot, if its own snapshot has it further: between the two it may have handled something whose effect is not in the backup.
func (r *restorer) moveBack(ctx context.Context) error {
	for _, f := range r.m.Floors {
		info, err := r.consumer(ctx, f)
		if err != nil {
			return fmt.Errorf("consumer %s: %w", f.Consumer, err)
		}
		if info.AckFloor.Stream > f.Sequence {
			err := settled(ctx, func(ctx context.Context) error {
				_, err := r.cfg.JS.ResetConsumerToSequence(ctx, f.Stream, f.Consumer, f.Sequence+1)
				return err
			})
			if err != nil {
				return fmt.Errorf("move consumer %s back to %d: %w", f.Consumer, f.Sequence, err)
			}
			r.out.MovedBack++
		}
		err = settled(ctx, func(ctx context.Context) error {
			_, err := r.cfg.JS.ResumeConsumer(ctx, f.Stream, f.Consumer) // it was paused when it was backed up
			return err
		})
		if err != nil {
			return fmt.Errorf("resume consumer %s: %w", f.Consumer, err)
		}
	}
	return nil
}

// consumer reads a restored consumer. A cluster makes it a moment after it has answered that the stream is there.
func (r *restorer) consumer(ctx context.Context, f Floor) (info *jetstream.ConsumerInfo, err error) {
	err = settled(ctx, func(ctx context.Context) error {
		c, err := r.cfg.JS.Consumer(ctx, f.Stream, f.Consumer)
		if err == nil {
			info = c.CachedInfo()
		}
		return err
	})
	return info, err
}

// open takes the mark off the streams, last of all off the one that every service asks for, and makes what is not in a backup.
func (r *restorer) open(ctx context.Context) error {
	for n := range r.list {
		name := r.list[len(r.list)-1-n].name
		s, err := r.cfg.JS.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("open stream %s: %w", name, err)
		}
		config := s.CachedInfo().Config
		delete(config.Metadata, bus.MetadataRestore)
		if _, err := r.cfg.JS.UpdateStream(ctx, config); err != nil {
			return fmt.Errorf("open stream %s: %w", name, err)
		}
	}
	return bus.Apply(ctx, r.cfg.JS, r.cfg.Topology, r.cfg.Replicas)
}
