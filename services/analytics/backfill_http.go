package analytics

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events/access"
)

type backfillInput struct {
	Body *struct {
		Query  string `json:"query,omitempty" doc:"Of this query only." example:"orders-per-minute"`
		DryRun bool   `json:"dry_run,omitempty" doc:"Say what would be published, and publish nothing."`
	} `required:"false"`
}

type backfillStarted struct {
	Location string `header:"Location" doc:"Where the job can be asked for."`
	Body     BackfillJob
}

type backfillOutput struct{ Body BackfillJob }

func (s *Service) backfillRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "start-backfill", Method: http.MethodPost, Path: "/v1/backfills", Tags: []string{"analytics"}, DefaultStatus: http.StatusAccepted, Security: access.Any(access.Operator),
		Summary: "Compute windows again that late events have missed",
		Description: "Starts a job that reads LATE from where the last one ended, computes the windows again from TIMELINE, and publishes what differs as the next revision. " +
			"It does no harm to run it often, or twice at once: what is right already is not published again.",
		Errors: []int{http.StatusNotFound, http.StatusTooManyRequests},
	}, s.startBackfill)
	huma.Register(api, huma.Operation{
		OperationID: "get-backfill", Method: http.MethodGet, Path: "/v1/backfills/{id}", Tags: []string{"analytics"}, Security: access.Any(access.OrdersRead, access.Operator), Summary: "How a backfill goes, and what it did",
		Errors: []int{http.StatusNotFound},
	}, s.getBackfill)
}

func (s *Service) startBackfill(_ context.Context, in *backfillInput) (*backfillStarted, error) {
	query, dry := "", false
	if in.Body != nil {
		query, dry = in.Body.Query, in.Body.DryRun
	}
	if query != "" && s.plan.find(query) == nil {
		return nil, s.noQuery(query)
	}
	j, err := s.backfills.add(query, dry)
	if errors.Is(err, errQueueFull) {
		return nil, huma.ErrorWithHeaders(huma.NewError(http.StatusTooManyRequests, err.Error()+"; try again when one has ended"), http.Header{"Retry-After": {"5"}})
	}
	if err != nil {
		return nil, err
	}
	return &backfillStarted{Location: "/v1/backfills/" + j.ID, Body: j}, nil
}

func (s *Service) getBackfill(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"64"`
},
) (*backfillOutput, error) {
	j, ok, err := s.backfills.find(ctx, in.ID)
	if err != nil {
		return nil, unavailable(err)
	}
	if !ok {
		return nil, huma.Error404NotFound(fmt.Sprintf("no backfill %q; the last hundred states are kept", in.ID))
	}
	return &backfillOutput{Body: j}, nil
}
