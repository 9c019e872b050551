package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// SwapOptions say how [Projection.Swap] decides.
type SwapOptions struct {
	Version uint64 // 0: the next one, that was rebuilt
	Back    bool   // to the version that answered before, instead
	Force   bool   // although it differs
	DryRun  bool   // compare and decide only
}

// Swap makes another version the live one, in this process at once and in every other that watches. It is compared first: one that differs from the live one is refused with [ErrDiffers] unless
// another fold made it, which is what a rebuild is for, or Force is set. Queries are answered all the time, and never from an older state than before. The version that
// answered so far is kept to go back to, until the next swap or a drop.
func (p *Projection[M]) Swap(ctx context.Context, o SwapOptions) (Comparison, error) {
	p.ops.Lock()
	defer p.ops.Unlock()
	if o.Back {
		r, err := p.readRecord(ctx)
		if err != nil {
			return Comparison{}, err
		}
		if o.Version = r.Previous; r.Previous == 0 {
			return Comparison{}, fmt.Errorf("%w: none is kept to go back to", ErrNoVersion)
		}
	}
	to, c, err := p.compare(ctx, o.Version)
	if err != nil {
		return c, err
	}
	if !c.Equal && c.SameFold && !o.Force {
		return c, fmt.Errorf("%w: %d of %d rows", ErrDiffers, c.Differ, max(c.Count, c.LiveCount))
	}
	if o.DryRun {
		return c, nil
	}
	r, err := p.changeRecord(ctx, func(r *record) error {
		if r.Live != c.Live {
			return fmt.Errorf("%w: version %d is live by now", errMoved, r.Live)
		}
		r.swap(to.Number)
		return nil
	})
	if err != nil {
		return c, err
	}
	if err := p.apply(ctx, r); err != nil {
		return c, fmt.Errorf("version %d is live, but this process does not answer from it yet: %w", to.Number, err)
	}
	return c, p.dropRest(ctx, r)
}

// Drop forgets a version that is not live.
func (p *Projection[M]) Drop(ctx context.Context, number uint64) error {
	p.ops.Lock()
	defer p.ops.Unlock()
	if err := p.running(); err != nil {
		return err
	}
	r, err := p.changeRecord(ctx, func(r *record) error {
		_, ok := r.version(number)
		switch {
		case !ok:
			return fmt.Errorf("%w: %d", ErrNoVersion, number)
		case number == r.Live:
			return fmt.Errorf("%w: version %d is the live one", ErrNoVersion, number)
		case number == r.Next:
			r.Next = 0
		case number == r.Previous:
			r.Previous = 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.dropRest(ctx, r)
}

// ProjectionStatus is how a projection stands.
type ProjectionStatus struct {
	Name     string
	Live     uint64
	Fold     int // of the program
	Versions []VersionStatus
}

// VersionStatus is how one version stands, as this process knows.
type VersionStatus struct {
	Version
	Role    Role
	State   VersionState
	At      map[string]uint64 // sequences folded, by stream
	Lag     uint64            // events that are stored and not folded
	Count   int               // rows
	Bytes   int64             // of its snapshot
	SavedAt time.Time         // of its snapshot; zero: none
	Skipped map[string]uint64 // events of unknown types, by type
	Parked  []Parked
	Err     error
}

// Role is what a version is for.
type Role string

// The roles of versions.
const (
	RoleLive     Role = "live"
	RoleNext     Role = "next"
	RolePrevious Role = "previous"
)

// VersionState says what a version does.
type VersionState string

// The states of versions.
const (
	StateBuilding VersionState = "building" // it has not read the logs to their ends
	StateReady    VersionState = "ready"    // it follows the logs
	StateStored   VersionState = "stored"   // its snapshot is kept; this process does not read it
	StateFailed   VersionState = "failed"
)

// Status is how the projection stands: the live version first, then by number.
func (p *Projection[M]) Status(ctx context.Context) (ProjectionStatus, error) {
	if err := p.running(); err != nil {
		return ProjectionStatus{}, err
	}
	r, err := p.readRecord(ctx)
	if err != nil {
		return ProjectionStatus{}, err
	}
	ends := make(map[string]uint64, len(p.cfg.Logs))
	for _, log := range p.cfg.Logs {
		if ends[log.stream], err = log.LastSequence(ctx); err != nil {
			return ProjectionStatus{}, err
		}
	}
	running := make(map[uint64]*version[M])
	for _, v := range p.inMemory() {
		running[v.number] = v
	}
	status := ProjectionStatus{Name: p.cfg.Name, Live: r.Live, Fold: p.cfg.Fold}
	for _, v := range r.Versions {
		s := VersionStatus{Version: v, Role: r.role(v.Number)}
		if v, ok := running[v.Number]; ok {
			v.report(&s)
		} else if err := p.reportStored(ctx, &s); err != nil {
			return ProjectionStatus{}, err
		}
		for stream, end := range ends {
			if at := s.At[stream]; at < end {
				s.Lag += end - at
			}
		}
		status.Versions = append(status.Versions, s)
	}
	slices.SortStableFunc(status.Versions, func(a, b VersionStatus) int {
		if a.Role == RoleLive || b.Role == RoleLive {
			return cmp.Compare(b2i(b.Role == RoleLive), b2i(a.Role == RoleLive))
		}
		return cmp.Compare(a.Number, b.Number)
	})
	return status, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r record) role(number uint64) Role {
	switch number {
	case r.Live:
		return RoleLive
	case r.Previous:
		return RolePrevious
	}
	return RoleNext
}

func (v *version[M]) report(s *VersionStatus) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s.At, s.Skipped, s.Parked = v.state()
	s.Count, s.Bytes, s.SavedAt, s.Err = v.model.Count(), v.stored.manifest.size(), v.stored.manifest.SavedAt, v.failed
	switch {
	case v.failed != nil:
		s.State = StateFailed
	case v.left > 0:
		s.State = StateBuilding
	default:
		s.State = StateReady
	}
}

func (p *Projection[M]) reportStored(ctx context.Context, s *VersionStatus) error {
	var m manifest
	if _, err := p.getJSON(ctx, p.manifestKey(s.Number), &m); err != nil {
		return err
	}
	s.State, s.At, s.Skipped, s.Parked, s.Count, s.Bytes, s.SavedAt = StateStored, m.At, m.Skipped, m.Parked, m.Count, m.size(), m.SavedAt
	return nil
}

// projectionMetrics say what a projection did and where it stands.
type projectionMetrics struct {
	skipped metric.Int64Counter
	name    attribute.KeyValue
	stop    func()
}

// observed is one version at one moment.
type observed struct {
	version uint64
	role    Role
	at      map[string]uint64
	parked  int
}

func newProjectionMetrics(provider metric.MeterProvider, name string, observe func() []observed) (*projectionMetrics, error) {
	meter := provider.Meter(scope)
	m := &projectionMetrics{name: attribute.String("projection", name)}
	var errs [4]error
	m.skipped, errs[0] = meter.Int64Counter("tidemark.projection.skipped", metric.WithUnit("{event}"), metric.WithDescription("events of unknown types that a projection passed over, by type"))
	position, err := meter.Int64ObservableGauge("tidemark.projection.position", metric.WithUnit("{event}"), metric.WithDescription("the last sequence of each stream that a projection has folded"))
	errs[1] = err
	parked, err := meter.Int64ObservableGauge("tidemark.projection.parked", metric.WithUnit("{event}"), metric.WithDescription("events that a projection could not fold and passed over"))
	errs[2] = err
	registered, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, v := range observe() {
			of := []attribute.KeyValue{m.name, attribute.String("role", string(v.role))}
			o.ObserveInt64(parked, int64(v.parked), metric.WithAttributes(of...))
			for stream, at := range v.at {
				o.ObserveInt64(position, int64(at), metric.WithAttributes(append(slices.Clone(of), attribute.String("messaging.nats.stream", stream))...)) //nolint:gosec // a stream does not hold so many
			}
		}
		return nil
	}, position, parked)
	errs[3] = err
	m.stop = sync.OnceFunc(func() {
		if registered != nil {
			_ = registered.Unregister() // fails only where it is not registered
		}
	})
	return m, errors.Join(errs[:]...)
}

func (m *projectionMetrics) skip(ctx context.Context, eventType string) {
	m.skipped.Add(ctx, 1, metric.WithAttributes(m.name, attribute.String("type", eventType)))
}

func (p *Projection[M]) observe() []observed {
	var all []observed
	for i, v := range p.inMemory() {
		o := observed{version: v.number, role: RoleNext}
		if i == 0 {
			o.role = RoleLive
		}
		v.mu.Lock()
		o.at, o.parked = maps.Clone(v.where()), len(v.parked)
		v.mu.Unlock()
		all = append(all, o)
	}
	return all
}
