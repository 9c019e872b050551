package analytics

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/window"
)

// plan is all that one instance computes. It does not change while it runs.
type plan struct {
	queries  []*asked
	byType   map[string][]int // the queries that take an event type, by their place
	registry *events.Registry
	origins  events.Origins
}

// asked is one query with the settings that hold for it.
type asked struct {
	Query
	settings   Settings
	partitions int   // all that it reads
	offsets    []int // where those of each stream begin, by its place in the origins; less than 0: it reads none of them
}

func newPlan(cfg Config, topology *events.Topology, registry *events.Registry) *plan {
	p := &plan{byType: make(map[string][]int), registry: registry, origins: topology.Origins(events.StreamTimeline)}
	for i, q := range cfg.Queries {
		a := &asked{Query: q, settings: cfg.settingsOf(q.Name)}
		a.place(&p.origins, topology)
		p.queries = append(p.queries, a)
		for _, t := range q.Types {
			p.byType[t] = append(p.byType[t], i)
		}
	}
	return p
}

// place numbers the partitions that the query reads: those of one stream behind those of another. Types that no channel names may be anywhere.
func (a *asked) place(origins *events.Origins, topology *events.Topology) {
	holding := origins.Holding(topology, a.Types)
	if len(holding) == 0 {
		for i := range origins.Streams {
			holding = append(holding, i)
		}
	}
	a.offsets = make([]int, len(origins.Streams))
	for i := range a.offsets {
		a.offsets[i] = -1
	}
	for _, i := range holding {
		stream, _ := topology.Stream(origins.Streams[i])
		a.offsets[i] = a.partitions
		a.partitions += stream.Partitions
	}
	a.partitions = max(a.partitions, 1)
}

// partition is the engine's number of a partition of a stream. A query that was recorded with one partition reads all as one.
func (a *asked) partition(stream, partition int) int {
	if stream < len(a.offsets) && a.offsets[stream] > 0 {
		partition += a.offsets[stream]
	}
	return partition % a.partitions
}

// timeOf is the time that puts an event into its windows.
func (a *asked) timeOf(ev *events.Event, stored int64) int64 {
	if a.StoreTime {
		return stored
	}
	return ev.Time.UnixMilli()
}

func (a *asked) config() window.Config {
	s := &a.settings
	return window.Config{
		Windows: a.Windows, Aggregate: a.Aggregate, Partitions: a.partitions,
		Bound: s.Bound, Lateness: s.Lateness, Idle: s.Idle, NoIdleAdvance: s.HoldIdle, MaxFuture: s.MaxFuture,
	}
}

func (p *plan) find(name string) *asked {
	for _, q := range p.queries {
		if q.Name == name {
			return q
		}
	}
	return nil
}

func (p *plan) names() []string {
	names := make([]string, len(p.queries))
	for i, q := range p.queries {
		names[i] = q.Name
	}
	return names
}

// A step of the log has so many events at most. It is less than what the broker sends without an acknowledgement, so that a batch that is full need not wait.
const maxStep = 1000

// Where micro-batches have a number of events only, a step waits for so long for more.
const leastGather = 100 * time.Millisecond

// gather is for how long a step gathers, and how many events at most. It gathers only where every query works in micro-batches: then one commit and one round of
// publishing serves them all.
func (p *plan) gather() (wait time.Duration, most int) {
	wait, most = maxEvery, maxStep
	for _, q := range p.queries {
		m := q.settings.Mode
		switch {
		case !m.batched():
			return 0, maxStep
		case m.Every == 0:
			wait = min(wait, leastGather)
		default:
			wait = min(wait, m.Every)
		}
		if m.Events > 0 {
			most = min(most, m.Events)
		}
	}
	return wait, most
}

// Input is an event on its way into the queries. What one of them has decoded, the others share.
type Input struct {
	*events.Event
	payload any
}

// Payload is the event's payload as a T. It is decoded once for all queries that ask for the same type. In an error there is a zero value, so that a caller may
// look at both at the end.
func Payload[T any](in *Input) (*T, error) {
	if v, ok := in.payload.(*T); ok {
		return v, nil
	}
	v := new(T)
	if err := json.Unmarshal(in.Data, v); err != nil {
		return new(T), fmt.Errorf("%w: payload of %s: %w", events.ErrUndecodable, in.Type, err)
	}
	in.payload = v
	return v, nil
}

// readings are what the queries that take an event see in it, in the plan's order.
type readings []Reading

// read checks an event and reads it for all queries that take it. nil, nil: none of them does, and whatever it is, it is passed over. The rules beside
// the schema are those that a stored late event needs: an id and a time that it can hold.
func (p *plan) read(ev *events.Event) (readings, error) {
	takers := p.byType[ev.Type]
	if len(takers) == 0 {
		return nil, nil
	}
	if err := checkEnvelope(ev); err != nil {
		return nil, err
	}
	if err := p.registry.Validate(ev); err != nil {
		return nil, err
	}
	in := Input{Event: ev}
	all := make(readings, len(takers))
	for n, i := range takers {
		reading, err := p.queries[i].Read(&in)
		if err != nil {
			return nil, err
		}
		reading.Key = shorten(reading.Key)
		all[n] = reading
	}
	return all, nil
}

// check is read as the log's reader asks it; what it returns comes back with the delivery.
func (p *plan) check(ev *events.Event) (any, error) {
	all, err := p.read(ev)
	if all == nil || err != nil {
		return nil, err
	}
	return all, nil
}

// Limits on what reaches results and late events.
const (
	maxID   = 128 // code points
	minYear = 1
	maxYear = 9998 // a window's end must be a year of four digits too

	maxKey  = 256 // bytes; a key becomes a token of a subject
	keyHead = 200 // what is kept of a longer one
)

func checkEnvelope(ev *events.Event) error {
	if len(ev.ID) > maxID && utf8.RuneCountInString(ev.ID) > maxID {
		return fmt.Errorf("%w: id: must have at most %d characters, has %d", events.ErrInvalidEvent, maxID, utf8.RuneCountInString(ev.ID))
	}
	if ev.Time.IsZero() {
		return fmt.Errorf("%w: time: required, is missing", events.ErrInvalidEvent)
	}
	if y := ev.Time.Year(); y < minYear || y > maxYear {
		return fmt.Errorf("%w: time: must be in the years %d to %d, is %s", events.ErrInvalidEvent, minYear, maxYear, ev.Time.Format(time.RFC3339))
	}
	return nil
}

// shorten keeps a key short enough for a subject: the head of a longer one, and a piece of its SHA-256, so that two of them stay two.
func shorten(key string) string {
	if len(key) <= maxKey {
		return key
	}
	end := keyHead
	for !utf8.RuneStart(key[end]) {
		end--
	}
	sum := sha256.Sum256([]byte(key))
	return key[:end] + "~" + hex.EncodeToString(sum[:8])
}

// validate reports every rule that the queries break, joined.
func (c Config) validateQueries() error {
	var errs []error
	seen := make(map[string]bool)
	for i, q := range c.Queries {
		bad := func(err error) { errs = append(errs, fmt.Errorf("query %q: %w", q.Name, err)) }
		if q.Name == "" {
			errs = append(errs, fmt.Errorf("query %d: name: required, is empty", i))
		}
		if seen[q.Name] {
			bad(errors.New("name: must be used once"))
		}
		seen[q.Name] = true
		if len(q.Types) == 0 {
			bad(errors.New("types: required, are none"))
		}
		if q.Read == nil {
			bad(errors.New("read: required, is nil"))
		}
		s := c.settingsOf(q.Name)
		a := asked{Query: q, settings: s, partitions: 1}
		if err := errors.Join(a.config().Validate(), s.Mode.Validate()); err != nil {
			bad(err)
		}
	}
	for name := range c.Settings {
		if !seen[name] {
			errs = append(errs, fmt.Errorf("settings of %q: there is no such query", name))
		}
	}
	return errors.Join(errs...)
}
