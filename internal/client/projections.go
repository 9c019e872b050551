package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// The roles and states of a read model's versions.
const (
	RoleLive     = "live"
	RoleNext     = "next"
	RolePrevious = "previous"

	StateBuilding = "building"
	StateReady    = "ready"
	StateFailed   = "failed"
)

// ProjectionVersion is one version of a read model.
type ProjectionVersion struct {
	Name     string            `json:"name"`
	Version  uint64            `json:"version"`
	Role     string            `json:"role"`
	State    string            `json:"state"`
	Position map[string]uint64 `json:"position"`
	Lag      uint64            `json:"lag"`
	Rows     int               `json:"rows"`
	Bytes    int64             `json:"bytes"`
	Begun    time.Time         `json:"begun"`
	SavedAt  time.Time         `json:"saved_at,omitzero"`
	Fold     int               `json:"fold"`
	Program  int               `json:"program_fold"`
	Skipped  map[string]uint64 `json:"skipped,omitempty"`
	Parked   []ParkedEvent     `json:"parked,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// ParkedEvent is an event that a version could not fold.
type ParkedEvent struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Subject  string `json:"subject"`
	Type     string `json:"type,omitempty"`
	Error    string `json:"error"`
}

// ProjectionComparison is what sets a version apart from the live one.
type ProjectionComparison struct {
	Version  uint64            `json:"version"`
	Live     uint64            `json:"live"`
	Position map[string]uint64 `json:"position"`
	Equal    bool              `json:"equal"`
	SameFold bool              `json:"same_fold"`
	Rows     int               `json:"rows"`
	LiveRows int               `json:"live_rows"`
	Differ   int               `json:"differ"`
	First    []RowDifference   `json:"first,omitempty"`
	Digest   string            `json:"digest"`
	Parked   int               `json:"parked"`
	Swapped  bool              `json:"swapped"`
}

// RowDifference is a row that is not the same in two versions.
type RowDifference struct {
	Key     string `json:"key"`
	Live    string `json:"live,omitempty"`
	Version string `json:"version,omitempty"`
}

// ProjectionSwap says which version shall answer: the rebuilt one, unless Version or Back say another.
type ProjectionSwap struct {
	Version uint64 `json:"version,omitempty"`
	Back    bool   `json:"back,omitempty"`
	Force   bool   `json:"force,omitempty"`
	DryRun  bool   `json:"dry_run,omitempty"`
}

// Projections lists the versions of the read models that can be rebuilt.
func (c *Client) Projections(ctx context.Context) ([]ProjectionVersion, error) {
	var page struct {
		Items []ProjectionVersion `json:"items"`
	}
	err := c.get(ctx, "/v1/projections", nil, &page)
	return page.Items, err
}

// RebuildProjection begins a new version, or finds the one that is being built.
func (c *Client) RebuildProjection(ctx context.Context, name string, park bool) (uint64, error) {
	var out struct {
		Version uint64 `json:"version"`
	}
	body := struct {
		Park bool `json:"park,omitempty"`
	}{park}
	_, err := c.post(ctx, "/v1/projections/"+segment(name)+"/rebuild", "", body, &out)
	return out.Version, err
}

// CompareProjection compares a version with the live one.
func (c *Client) CompareProjection(ctx context.Context, name string, version uint64) (ProjectionComparison, error) {
	var out ProjectionComparison
	body := struct {
		Version uint64 `json:"version,omitempty"`
	}{version}
	_, err := c.post(ctx, "/v1/projections/"+segment(name)+"/compare", "", body, &out)
	return out, err
}

// SwapProjection lets another version answer.
func (c *Client) SwapProjection(ctx context.Context, name string, swap ProjectionSwap) (ProjectionComparison, error) {
	var out ProjectionComparison
	_, err := c.post(ctx, "/v1/projections/"+segment(name)+"/swap", "", swap, &out)
	return out, err
}

// DropProjection forgets a version that is not live.
func (c *Client) DropProjection(ctx context.Context, name string, version uint64) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: "/v1/projections/" + segment(name) + "/versions/" + strconv.FormatUint(version, 10)}, nil)
	return err
}
