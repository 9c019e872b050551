package order

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// catchUpFor is how long an operator's request waits for a version that is on its way.
const catchUpFor = 20 * time.Second

// projectionRoutes registers what an operator does with the listing's versions. What changes something is the operator's.
func (s *Service) projectionRoutes(api huma.API) {
	operation := func(method, id, path, summary string, codes ...int) huma.Operation {
		o := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"projections"}, Errors: codes, Security: access.Any(access.OrdersRead, access.Operator)}
		if method != http.MethodGet {
			o.Security = access.Any(access.Operator)
			o.Errors = append(o.Errors, http.StatusForbidden, http.StatusNotFound, http.StatusConflict)
		}
		return o
	}
	huma.Register(api, operation(http.MethodGet, "list-projections", "/v1/projections", "Show the versions of the read models", http.StatusServiceUnavailable), s.getProjections)
	rebuild := operation(http.MethodPost, "rebuild-projection", "/v1/projections/{name}/rebuild", "Build a new version beside the live one, from the first event on")
	rebuild.DefaultStatus = http.StatusAccepted
	huma.Register(api, rebuild, s.postRebuild)
	huma.Register(api, operation(http.MethodPost, "compare-projection", "/v1/projections/{name}/compare", "Compare a version with the live one, both at the same position"), s.postCompare)
	huma.Register(api, operation(http.MethodPost, "swap-projection", "/v1/projections/{name}/swap", "Let another version answer"), s.postSwap)
	huma.Register(api, operation(http.MethodDelete, "drop-projection", "/v1/projections/{name}/versions/{version}", "Forget a version that is not live"), s.deleteVersion)
}

// ProjectionBody is one version of a read model.
type ProjectionBody struct {
	Name     string            `json:"name"`
	Version  uint64            `json:"version"`
	Role     string            `json:"role" enum:"live,next,previous"`
	State    string            `json:"state" enum:"building,ready,stored,failed" doc:"Building: it reads the logs. Ready: it follows them. Stored: it is kept, and this process does not read it."`
	Position map[string]uint64 `json:"position" doc:"The last sequence that it has folded, by stream."`
	Lag      uint64            `json:"lag" doc:"Events that are stored and not folded."`
	Rows     int               `json:"rows"`
	Bytes    int64             `json:"bytes" doc:"Of its snapshot."`
	Begun    time.Time         `json:"begun"`
	SavedAt  time.Time         `json:"saved_at,omitzero" doc:"When its snapshot was taken."`
	Fold     int               `json:"fold" doc:"Version of the fold that began it."`
	Program  int               `json:"program_fold" doc:"Version of the fold in this program. Where they differ, a rebuild is due."`
	Skipped  map[string]uint64 `json:"skipped,omitempty" doc:"Events of unknown types, by type."`
	Parked   []ParkedBody      `json:"parked,omitempty" doc:"Events that it could not fold."`
	Error    string            `json:"error,omitempty" doc:"Why it failed."`
}

// ParkedBody is an event that a version has passed over.
type ParkedBody struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Subject  string `json:"subject"`
	Type     string `json:"type,omitempty"`
	Error    string `json:"error"`
}

type projectionsOutput struct {
	Body struct {
		Items []ProjectionBody `json:"items"`
	}
}

func (s *Service) getProjections(ctx context.Context, _ *struct{}) (*projectionsOutput, error) {
	status, err := s.listing.Status(ctx)
	if errors.Is(err, store.ErrNotReady) {
		return nil, later(huma.Error503ServiceUnavailable("the service is starting, or stops"))
	}
	if err != nil {
		return nil, s.projectionProblem(err)
	}
	out := &projectionsOutput{}
	for _, v := range status.Versions {
		out.Body.Items = append(out.Body.Items, projectionBody(status, v))
	}
	return out, nil
}

func projectionBody(status store.ProjectionStatus, v store.VersionStatus) ProjectionBody {
	b := ProjectionBody{
		Name: status.Name, Version: v.Number, Role: string(v.Role), State: string(v.State), Position: v.At, Lag: v.Lag, Rows: v.Count, Bytes: v.Bytes,
		Begun: v.Begun, SavedAt: v.SavedAt, Fold: v.Fold, Program: status.Fold, Skipped: v.Skipped,
	}
	for _, parked := range v.Parked {
		b.Parked = append(b.Parked, ParkedBody(parked))
	}
	if v.Err != nil {
		b.Error = v.Err.Error()
	}
	return b
}

type rebuildInput struct {
	Name string `path:"name"`
	Body *struct {
		Park bool `json:"park,omitempty" doc:"Pass over events that can't be folded, as the live version does, instead of giving up at the first one."`
	}
}

type rebuildOutput struct {
	Body struct {
		Version uint64 `json:"version"`
	}
}

func (s *Service) postRebuild(ctx context.Context, in *rebuildInput) (*rebuildOutput, error) {
	if err := knownProjection(in.Name); err != nil {
		return nil, err
	}
	version, err := s.listing.Rebuild(ctx, in.Body != nil && in.Body.Park)
	if err != nil {
		return nil, s.projectionProblem(err)
	}
	out := &rebuildOutput{}
	out.Body.Version = version
	return out, nil
}

// ComparisonBody is what sets a version apart from the live one.
type ComparisonBody struct {
	Version  uint64            `json:"version"`
	Live     uint64            `json:"live" doc:"The version that was live."`
	Position map[string]uint64 `json:"position" doc:"Where both stood when they were compared."`
	Equal    bool              `json:"equal" doc:"Byte for byte."`
	SameFold bool              `json:"same_fold" doc:"The same fold made both: then they must be equal."`
	Rows     int               `json:"rows"`
	LiveRows int               `json:"live_rows"`
	Differ   int               `json:"differ" doc:"Rows that are not the same."`
	First    []RowBody         `json:"first,omitempty" doc:"Some of them."`
	Digest   string            `json:"digest"`
	Parked   int               `json:"parked"`
	Swapped  bool              `json:"swapped"`
}

// RowBody is a row that is not the same in two versions; empty where it is not there.
type RowBody struct {
	Key     string `json:"key"`
	Live    string `json:"live,omitempty"`
	Version string `json:"version,omitempty"`
}

func comparisonBody(c store.Comparison, swapped bool) ComparisonBody {
	b := ComparisonBody{
		Version: c.Version, Live: c.Live, Position: c.At, Equal: c.Equal, SameFold: c.SameFold, Rows: c.Count, LiveRows: c.LiveCount, Differ: c.Differ,
		Digest: c.Digest, Parked: c.Parked, Swapped: swapped,
	}
	for _, row := range c.First {
		b.First = append(b.First, RowBody(row))
	}
	return b
}

type compareInput struct {
	Name string `path:"name"`
	Body *struct {
		Version uint64 `json:"version,omitempty" doc:"Absent: the one that was rebuilt."`
	}
}

type comparisonOutput struct{ Body ComparisonBody }

func (s *Service) postCompare(ctx context.Context, in *compareInput) (*comparisonOutput, error) {
	if err := knownProjection(in.Name); err != nil {
		return nil, err
	}
	version := uint64(0)
	if in.Body != nil {
		version = in.Body.Version
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpFor)
	defer cancel()
	c, err := s.listing.Compare(ctx, version)
	if err != nil {
		return nil, s.projectionProblem(err)
	}
	return &comparisonOutput{Body: comparisonBody(c, false)}, nil
}

type swapInput struct {
	Name string `path:"name"`
	Body *struct {
		Version uint64 `json:"version,omitempty" doc:"Absent: the one that was rebuilt."`
		Back    bool   `json:"back,omitempty" doc:"To the one that was live before."`
		Force   bool   `json:"force,omitempty" doc:"Although the same fold made another state."`
		DryRun  bool   `json:"dry_run,omitempty" doc:"Compare and decide only."`
	}
}

func (s *Service) postSwap(ctx context.Context, in *swapInput) (*comparisonOutput, error) {
	if err := knownProjection(in.Name); err != nil {
		return nil, err
	}
	var o store.SwapOptions
	if in.Body != nil {
		o = store.SwapOptions(*in.Body)
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpFor)
	defer cancel()
	c, err := s.listing.Swap(ctx, o)
	if errors.Is(err, store.ErrDiffers) {
		return nil, differs(c, err)
	}
	if err != nil {
		return nil, s.projectionProblem(err)
	}
	return &comparisonOutput{Body: comparisonBody(c, !o.DryRun)}, nil
}

// differs refuses a swap, and shows why.
func differs(c store.Comparison, err error) error {
	var details []error
	for _, row := range c.First {
		details = append(details, &huma.ErrorDetail{Location: row.Key, Message: fmt.Sprintf("live %q, version %d %q", row.Live, c.Version, row.Version)})
	}
	return huma.Error409Conflict(fmt.Sprintf("version %d is not swapped in: %s; one of the two is wrong, and force takes it all the same", c.Version, err), details...)
}

type dropInput struct {
	Name    string `path:"name"`
	Version uint64 `path:"version"`
}

func (s *Service) deleteVersion(ctx context.Context, in *dropInput) (*struct{}, error) {
	if err := knownProjection(in.Name); err != nil {
		return nil, err
	}
	if err := s.listing.Drop(ctx, in.Version); err != nil {
		return nil, s.projectionProblem(err)
	}
	return nil, nil //nolint:nilnil // 204
}

func knownProjection(name string) error {
	if name != listingName {
		return huma.Error404NotFound(fmt.Sprintf("no projection %q can be rebuilt here; there is %q", name, listingName))
	}
	return nil
}

func (s *Service) projectionProblem(err error) error {
	switch {
	case errors.Is(err, store.ErrNoVersion):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, store.ErrNotReady):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, events.ErrUndecodable), errors.Is(err, store.ErrFold):
		return huma.Error409Conflict(err.Error())
	}
	return s.problem(err, "projection "+listingName, "try again")
}
