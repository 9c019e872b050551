package load

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
)

// stock receives units of every SKU. The key is the SKU's alone, so a second run adds nothing. A SKU that the API refuses is told and left: the
// orders that want it are refused as well.
func (s *sender) stock(ctx context.Context, skus []string, units int64, inFlight int) error {
	if units == 0 || len(skus) == 0 {
		return nil
	}
	s.report.phase("stocking", len(skus))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	for _, sku := range skus {
		if ctx.Err() != nil {
			break
		}
		if sku == "" {
			continue // has no address
		}
		group.Go(func() error {
			_, err := s.api.Receive(ctx, sku, stockKey(sku), units)
			s.report.add(1)
			switch status := client.StatusOf(err); {
			case err == nil:
				return nil
			case ctx.Err() == nil && status/100 == 4 && !wrongAddress(status):
				s.report.say("not stocked: %q: %v", sku, err)
				return nil
			}
			return fmt.Errorf("stock %q: %w", sku, err)
		})
	}
	return group.Wait()
}

// stockKey is one key a SKU, printable and short whatever the SKU is.
func stockKey(sku string) string {
	const longest = 100
	if token := events.Token(sku); len(token) <= longest {
		return "initial-stock-" + token
	}
	return "initial-stock-" + events.DeriveID(sku)
}
