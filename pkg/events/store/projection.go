package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Model is a read model: what a projection folds events into.
//
// Fold, Parts, Restore and Count are called by one goroutine at a time. Whoever answers queries from the model meanwhile needs a lock of the model's own against Fold.
//
// What Parts and Rows give must depend on the folded events alone: neither on how the events of several streams were interleaved, nor on whether the model was folded in one go or
// restored in between. Then two models of the same events are equal byte for byte, which is how a rebuild is compared.
type Model interface {
	// Fold takes in one event; those of one stream come in order, each once. An error says that the event has no effect and leaves the model as it was. One that wraps
	// events.ErrUnknownType says that the type is not known here: the event is skipped and counted.
	Fold(Recorded) error
	// Parts is the model in pieces, in the order in which Restore wants them. The library encodes those that have changed since it last stored them.
	Parts() []Part
	// Restore puts one part back into a model that is new, or holds the parts before it.
	Restore(name string, data []byte) error
	// Rows are the model's entries as a person would compare them, each with a key of its own.
	Rows() iter.Seq2[string, string]
	// Count is how many rows there are.
	Count() int
}

// Part is one piece of a model.
type Part struct {
	Name     string // of a-z, 0-9 and slashes
	Revision uint64 // is another one when the content is; means something only within one model
	Encode   func() []byte
}

// ProjectionConfig configures a [Projection]. Zero fields take the default.
type ProjectionConfig[M Model] struct {
	// Name is that of the read model, such as "orders": lower-case letters, digits and dashes. Required.
	Name string
	// Fold is the version of what the program makes of an event. Raise it when the same events come to another state than before: the version that is live then counts as folded by
	// another program, and a rebuild is due. 1 or more.
	Fold int
	// Layout is the version of the encoding. Raise it when old parts can't be restored any more: such a version is as good as none, and the logs are read from the start. 1 or more.
	Layout int
	// Logs are the streams that are folded: event stores, which lose nothing. One or more.
	Logs []*Store
	// New makes an empty model. Required.
	New func() M
	// Promote, if not nil, is called when a version begins to answer, before its next fold.
	Promote func(M)
	// SaveEvery is after how many events the model is stored. Default 10,000; negative: never.
	SaveEvery int
	// MaxParked is how many events that can't be folded a live version passes over. One more ends Run: so many mean that the fold is wrong, not the events. Default 500.
	MaxParked int
}

// ProjectionDeps are what a [Projection] needs.
type ProjectionDeps struct {
	JS        jetstream.JetStream
	Snapshots string // the object store for what was folded, a disposable cache
	Versions  string // the key-value bucket that says which version is live
	Telemetry bus.Telemetry
}

// The defaults of [ProjectionConfig].
const (
	DefaultSaveEvery = 10_000
	DefaultMaxParked = 500
)

var (
	// ErrProjection is wrapped by every error about a configuration.
	ErrProjection = errors.New("projection configuration")
	// ErrNoVersion: there is no version of this number, or none in this role.
	ErrNoVersion = errors.New("no such version")
	// ErrNotReady: the version has not read the logs to their end, or never will.
	ErrNotReady = errors.New("version is not ready")
	// ErrDiffers: the version is not the same as the live one, although the same program folded both.
	ErrDiffers = errors.New("version differs from the live one")
	// ErrFold: an event can't be folded.
	ErrFold = errors.New("event can't be folded")
)

// Projection keeps a read model of one or more logs: it folds them, stores what it folded together with the positions, and follows. A second version can be built beside the one
// that answers, compared with it, and take its place, while the first goes on answering. See the package's documentation.
type Projection[M Model] struct {
	cfg     ProjectionConfig[M]
	deps    ProjectionDeps
	log     *slog.Logger
	metrics *projectionMetrics

	answering atomic.Pointer[M]
	caughtUp  chan struct{} // closed when the live version has read what was stored at the start
	ready     sync.Once

	blobs    *Snapshots
	bucket   jetstream.KeyValue
	values   *asker               // of the bucket
	made     map[string]time.Time // when each stream was made
	due      chan *version[M]
	failures chan error // of live versions

	ops      sync.Mutex // held by whoever changes which versions there are
	mu       sync.Mutex
	live     *version[M]
	others   map[uint64]*version[M] // in this process
	reading  context.Context        // of Run
	readers  sync.WaitGroup
	stopping bool
}

// NewProjection checks the configuration. It does not block.
func NewProjection[M Model](cfg ProjectionConfig[M], deps ProjectionDeps) (*Projection[M], error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = DefaultSaveEvery
	}
	if cfg.MaxParked == 0 {
		cfg.MaxParked = DefaultMaxParked
	}
	deps.Telemetry = deps.Telemetry.OrNothing()
	p := &Projection[M]{
		cfg: cfg, deps: deps, log: deps.Telemetry.Logger.With(slog.String("projection", cfg.Name)),
		caughtUp: make(chan struct{}), due: make(chan *version[M], 4), failures: make(chan error, 1), others: make(map[uint64]*version[M]),
	}
	empty := cfg.New()
	p.answering.Store(&empty)
	var err error
	if p.metrics, err = newProjectionMetrics(deps.Telemetry.Meter, cfg.Name, p.observe); err != nil {
		return nil, fmt.Errorf("projection %s: %w", cfg.Name, err)
	}
	return p, nil
}

// Validate reports every error of the configuration, joined.
func (c ProjectionConfig[M]) Validate() error {
	var errs []error
	wrong := func(field, rule string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrProjection, field, fmt.Sprintf(rule, args...)))
	}
	if !plainName(c.Name) {
		wrong("Name", "must be of lower-case letters, digits and dashes, is %q", c.Name)
	}
	if c.Fold < 1 {
		wrong("Fold", "must be 1 or more, is %d", c.Fold)
	}
	if c.Layout < 1 {
		wrong("Layout", "must be 1 or more, is %d", c.Layout)
	}
	if len(c.Logs) == 0 {
		wrong("Logs", "must name a stream at least")
	}
	if c.New == nil {
		wrong("New", "required, is nil")
	}
	if c.MaxParked < 0 {
		wrong("MaxParked", "must be 0 or more, is %d", c.MaxParked)
	}
	return errors.Join(errs...)
}

func plainName(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != ""
}

// Live is the model that answers now. Ask anew for each query: another version may take its place.
func (p *Projection[M]) Live() M { return *p.answering.Load() }

// CaughtUp is closed when the live version has folded everything that was stored when Run began.
func (p *Projection[M]) CaughtUp() <-chan struct{} { return p.caughtUp }

// View calls fn with the model that answers and the sequences, by stream, up to which it is folded; nothing is folded meanwhile.
func (p *Projection[M]) View(fn func(model M, at map[string]uint64)) {
	p.mu.Lock()
	v := p.live
	p.mu.Unlock()
	if v == nil {
		fn(p.Live(), map[string]uint64{})
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	fn(v.model, v.where())
}

// Run folds until ctx ends, and then stores what was folded. It runs once. An error that is not the context's end means that the live version can't go on: the broker refuses to be read, or more
// events than MaxParked can't be folded.
func (p *Projection[M]) Run(ctx context.Context) error {
	defer p.metrics.stop()
	reading, stop := context.WithCancel(ctx)
	defer p.readers.Wait()
	defer stop()
	if err := p.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the error says that it was stopped
		}
		return fmt.Errorf("projection %s: %w", p.cfg.Name, err)
	}
	if err := p.begin(ctx, reading); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // as above
		}
		return fmt.Errorf("projection %s: %w", p.cfg.Name, err)
	}
	var helpers sync.WaitGroup
	helpers.Go(func() { p.watch(reading) })
	helpers.Go(func() { p.keepSaving(reading) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-p.failures:
		err = fmt.Errorf("projection %s: %w", p.cfg.Name, err)
	}
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	stop()
	helpers.Wait()
	p.readers.Wait()
	p.saveAtStop(ctx)
	return err
}

// open finds the buckets and when the streams were made.
func (p *Projection[M]) open(ctx context.Context) error {
	var err error
	if p.blobs, err = NewSnapshots(ctx, p.deps.JS, p.deps.Snapshots); err != nil {
		return err
	}
	if p.bucket, err = p.deps.JS.KeyValue(ctx, p.deps.Versions); err != nil {
		return fmt.Errorf("open bucket %s: %w", p.deps.Versions, err)
	}
	p.values = newAsker(p.deps.JS, "KV_"+p.deps.Versions)
	p.made = make(map[string]time.Time, len(p.cfg.Logs))
	for _, log := range p.cfg.Logs {
		stream, err := p.deps.JS.Stream(ctx, log.stream)
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", log.stream, err)
		}
		p.made[log.stream] = stream.CachedInfo().Created
	}
	return nil
}
