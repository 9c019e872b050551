package inventory

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

const (
	snapshotName = "inventory-main"

	// snapshotFormat changes with the meaning of a field and with every change of evolve that gives another state: an old snapshot is then as good as
	// none, and the log is read from its start.
	snapshotFormat = 1

	saveTimeout     = 30 * time.Second // storing a snapshot while running
	saveLastTimeout = 2 * time.Second  // and when stopping
)

// errForeignSnapshot: the snapshot is not one of this log, or of another version.
var errForeignSnapshot = errors.New("foreign snapshot")

// snapshot is the state in JSON. LastID is the id of the event at the position: it ties the snapshot to its log.
type snapshot struct {
	Format    int                      `json:"format"`
	At        [2]uint64                `json:"at"` // marks: position, order sequence
	Forgotten [2]uint64                `json:"forgotten"`
	Next      [2]uint64                `json:"next"`
	LastID    string                   `json:"last_id"`
	Items     map[string]snapshotItem  `json:"items"`
	Orders    map[string]snapshotOrder `json:"orders"`
	Receipts  map[string]int64         `json:"receipts"`
}

type snapshotItem struct {
	OnHand   int64  `json:"h"`
	Reserved int64  `json:"r,omitempty"`
	Version  uint64 `json:"v"`
}

type snapshotOrder struct {
	Phase    phase         `json:"p"`
	Version  uint64        `json:"v"`
	Sequence uint64        `json:"s"`
	Lines    []events.Line `json:"l,omitempty"`
}

// take copies the state. The caller holds the lock; turning the copy into bytes needs none.
func (l *live) take() *snapshot {
	w := l.state
	pair := func(m mark) [2]uint64 { return [2]uint64{m.position, m.orderSeq} }
	s := &snapshot{
		Format: snapshotFormat, At: pair(w.at), Forgotten: pair(w.forgotten), Next: pair(w.next), LastID: l.lastID,
		Items:    make(map[string]snapshotItem, len(w.items)),
		Orders:   make(map[string]snapshotOrder, len(w.orders)),
		Receipts: make(map[string]int64, len(w.receipts)),
	}
	for sku, it := range w.items {
		s.Items[sku] = snapshotItem{it.onHand, it.reserved, it.version}
	}
	for id, o := range w.orders {
		s.Orders[id] = snapshotOrder{o.phase, o.version, o.sequence, o.lines} // lines never change once they are there
	}
	for key, q := range w.receipts {
		s.Receipts[hex.EncodeToString(key[:])] = q
	}
	return s
}

// restore makes the warehouse that was taken.
func (s *snapshot) restore() (*warehouse, error) {
	unpair := func(p [2]uint64) mark { return mark{p[0], p[1]} }
	if s.Format != snapshotFormat {
		return nil, fmt.Errorf("%w: format %d, must be %d", errForeignSnapshot, s.Format, snapshotFormat)
	}
	w := newWarehouse()
	w.at, w.forgotten, w.next = unpair(s.At), unpair(s.Forgotten), unpair(s.Next)
	for sku, it := range s.Items {
		w.items[sku] = item{it.OnHand, it.Reserved, it.Version}
	}
	for id, o := range s.Orders {
		w.orders[id] = orderState{o.Phase, o.Version, o.Sequence, o.Lines}
	}
	for text, q := range s.Receipts {
		var key receiptKey
		if n, err := hex.Decode(key[:], []byte(text)); err != nil || n != len(key) || len(text) != hex.EncodedLen(len(key)) {
			return nil, fmt.Errorf("%w: receipt %q", errForeignSnapshot, text)
		}
		w.receipts[key] = q
	}
	return w, nil
}

// keeper stores and loads the snapshot.
type keeper struct {
	blobs *store.Snapshots
	log   *store.Store
}

// load returns the state of the stored snapshot and the id of its last event. The error says why there is none that could be used; then the log is read from its start.
func (k keeper) load(ctx context.Context) (*warehouse, string, error) {
	blob, err := k.blobs.Get(ctx, snapshotName)
	if err != nil {
		return nil, "", fmt.Errorf("load snapshot: %w", err)
	}
	var s snapshot
	if err := json.Unmarshal(blob, &s); err != nil {
		return nil, "", fmt.Errorf("load snapshot: %w: %w", errForeignSnapshot, err)
	}
	w, err := s.restore()
	if err != nil {
		return nil, "", fmt.Errorf("load snapshot: %w", err)
	}
	last, err := k.log.Get(ctx, w.at.position)
	if err != nil {
		return nil, "", fmt.Errorf("load snapshot: compare with the log at %d: %w", w.at.position, err)
	}
	if last.ID != s.LastID {
		return nil, "", fmt.Errorf("load snapshot: %w: event %s at %d, the log has %s", errForeignSnapshot, s.LastID, w.at.position, last.ID)
	}
	return w, s.LastID, nil
}

func (k keeper) save(ctx context.Context, s *snapshot) error {
	blob, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	if err := k.blobs.Put(ctx, snapshotName, blob); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return nil
}

// keepHouse makes the state forget and stores a snapshot when it is time. The decider calls it between two decisions; ctx ends with the decider.
func (s *Service) keepHouse(ctx context.Context) {
	s.live.mu.Lock()
	position := s.live.state.at.position
	forget := position-s.live.forgotAt >= s.live.forgetEvery
	save := s.cfg.SnapshotEvery > 0 && position-s.saved >= s.live.forgetEvery && s.decider.appended
	if !forget && !save {
		s.live.mu.Unlock()
		return
	}
	if forget {
		s.live.state.forget()
		s.live.forgotAt = position
	}
	var taken *snapshot
	if save && s.mayStore() {
		taken = s.live.take()
		s.saved, s.decider.appended = position, false
	}
	s.live.mu.Unlock()
	if taken != nil {
		s.saving.Go(func() {
			defer func() { s.idle <- struct{}{} }()
			ctx, cancel := context.WithTimeout(ctx, saveTimeout)
			defer cancel()
			s.save(ctx, taken)
		})
	}
}

func (s *Service) mayStore() bool {
	select {
	case <-s.idle:
		return true
	default: // the one before is still on its way
		return false
	}
}

// save stores a snapshot. It is a cache: failing to store it costs time at the next start and nothing else.
func (s *Service) save(ctx context.Context, taken *snapshot) {
	if err := s.keeper.save(ctx, taken); err != nil {
		if errors.Is(err, context.Canceled) {
			return // the service stops, and then stores a newer one
		}
		s.telemetry.Logger.WarnContext(ctx, "the snapshot was not stored", "error", err)
		return
	}
	s.stored.Store(taken.At[0])
	s.metrics.snapshot(ctx)
}

// saveLast stores the state at a clean stop, so that the next start reads nothing.
func (s *Service) saveLast(ctx context.Context) {
	if s.cfg.SnapshotEvery < 0 || !s.js.Conn().IsConnected() {
		return
	}
	s.live.mu.Lock()
	taken := s.live.take()
	s.live.mu.Unlock()
	if taken.At[0] > s.stored.Load() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveLastTimeout)
		defer cancel()
		s.save(ctx, taken)
	}
}
