package order

import (
	"context"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// listingName is the name of the listing as a projection.
const listingName = "orders"

// newListing is the projection that keeps the table: it follows both logs, stores what it folded, and lets a rebuilt table take the place of the one that answers.
func (s *Service) newListing(telemetry bus.Telemetry) (*store.Projection[*table], error) {
	return store.NewProjection(store.ProjectionConfig[*table]{
		Name: listingName, Fold: listingFold, Layout: listingLayout, Logs: []*store.Store{s.log, s.stock},
		New: newTable, Promote: s.waiters.promote, SaveEvery: s.cfg.SnapshotEvery,
	}, store.ProjectionDeps{JS: s.js, Snapshots: events.BucketSnapshots, Versions: events.BucketProjections, Telemetry: telemetry})
}

// table is the listing that answers now.
func (s *Service) table() *table { return s.listing.Live() }

// follow keeps the read model until ctx ends. caughtUp is closed when it holds what was stored at the start.
func (s *Service) follow(ctx context.Context) error {
	go func() {
		select {
		case <-s.listing.CaughtUp():
			close(s.caughtUp)
		case <-ctx.Done():
		}
	}()
	return s.listing.Run(ctx)
}
