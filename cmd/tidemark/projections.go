package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/program"
)

type projectionsCmd struct {
	List    projectionsListCmd    `cmd:"" help:"Show the read models, their versions and how far they are."`
	Rebuild projectionsRebuildCmd `cmd:"" help:"Build a new version from the first event on, beside the live one."`
	Swap    projectionsSwapCmd    `cmd:"" help:"Let another version answer."`
	Drop    projectionsDropCmd    `cmd:"" help:"Forget a version that is not live."`
}

type projectionsListCmd struct {
	api  `embed:""`
	JSON bool `name:"json" help:"One object a line."`
}

// Run lists every version.
func (c *projectionsListCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	versions, err := cl.Projections(a.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		for _, v := range versions {
			if err := json.NewEncoder(a.stdout).Encode(v); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "PROJECTION\tVERSION\tROLE\tSTATE\tROWS\tPOSITION\tLAG\tBYTES\tAGE\tFOLD\tSKIPPED\tPARKED")
	for _, v := range versions {
		skipped := uint64(0)
		for _, n := range v.Skipped {
			skipped += n
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%s\t%d\t%d\t%s\t%d\t%d\t%d\n", v.Name, v.Version, v.Role, v.State, v.Rows, position(v.Position), v.Lag, v.Bytes,
			time.Since(v.Begun).Round(time.Second), v.Fold, skipped, len(v.Parked))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, v := range versions {
		explainVersion(a, v)
	}
	return nil
}

// explainVersion says on stderr what an operator should know of a version.
func explainVersion(a *app, v client.ProjectionVersion) {
	name := fmt.Sprintf("%s, version %d", v.Name, v.Version)
	if v.Role == client.RoleLive && v.Fold != v.Program {
		fmt.Fprintf(a.stderr, "%s: was begun with fold %d, and the program has fold %d: rebuild it\n", name, v.Fold, v.Program)
	}
	for _, eventType := range slices.Sorted(maps.Keys(v.Skipped)) {
		fmt.Fprintf(a.stderr, "%s: skipped %d events of the unknown type %s\n", name, v.Skipped[eventType], eventType)
	}
	for _, p := range v.Parked {
		fmt.Fprintf(a.stderr, "%s: parked %s sequence %d, %s: %s\n", name, p.Stream, p.Sequence, p.Type, p.Error)
	}
	if v.Error != "" {
		fmt.Fprintf(a.stderr, "%s: failed: %s\n", name, v.Error)
	}
}

func position(at map[string]uint64) string {
	var all []string
	for _, stream := range slices.Sorted(maps.Keys(at)) {
		all = append(all, fmt.Sprintf("%s:%d", stream, at[stream]))
	}
	return strings.Join(all, " ")
}

type projectionsRebuildCmd struct {
	api     `embed:""`
	Name    string        `arg:"" help:"The projection: orders."`
	Park    bool          `help:"Pass over events that can't be folded instead of giving up at the first one."`
	NoWait  bool          `help:"Return when it has begun, not when it is built and compared."`
	Timeout time.Duration `default:"10m" help:"How long to wait for that."`
	JSON    bool          `name:"json" help:"One object on one line."`
}

var errRebuild = errors.New("the rebuild failed")

// Run builds a version and compares it with the live one, which goes on answering.
func (c *projectionsRebuildCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	version, err := cl.RebuildProjection(a.ctx, c.Name, c.Park)
	if err != nil {
		return err
	}
	if c.NoWait {
		if c.JSON {
			return json.NewEncoder(a.stdout).Encode(map[string]uint64{"version": version})
		}
		_, err := fmt.Fprintf(a.stdout, "%s: version %d is being built\n", c.Name, version)
		return err
	}
	if err := c.await(a, cl, version); err != nil {
		return err
	}
	compared, err := cl.CompareProjection(a.ctx, c.Name, version)
	if err != nil {
		return err
	}
	return printComparison(a, c.Name, compared, c.JSON)
}

// await waits until the version follows the logs.
func (c *projectionsRebuildCmd) await(a *app, cl *client.Client, version uint64) error {
	ctx, cancel := context.WithTimeoutCause(a.ctx, c.Timeout, fmt.Errorf("version %d is still being built after %s", version, c.Timeout))
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for said := time.Now(); ; {
		v, err := findVersion(ctx, cl, c.Name, version)
		switch {
		case err != nil:
			return err
		case v.State == client.StateFailed:
			return fmt.Errorf("%w: %s", errRebuild, v.Error)
		case v.State == client.StateReady:
			return nil
		}
		if time.Since(said) > time.Second {
			said = time.Now()
			fmt.Fprintf(a.stderr, "%s, version %d: %d rows, %d events left\n", c.Name, version, v.Rows, v.Lag)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func findVersion(ctx context.Context, cl *client.Client, name string, version uint64) (client.ProjectionVersion, error) {
	versions, err := cl.Projections(ctx)
	if err != nil {
		return client.ProjectionVersion{}, err
	}
	i := slices.IndexFunc(versions, func(v client.ProjectionVersion) bool { return v.Name == name && v.Version == version })
	if i < 0 {
		return client.ProjectionVersion{}, fmt.Errorf("%w: version %d of %s is gone", errRebuild, version, name)
	}
	return versions[i], nil
}

type projectionsSwapCmd struct {
	api     `embed:""`
	Name    string `arg:"" help:"The projection: orders."`
	Version uint64 `xor:"to" help:"To this version (default: the one that was rebuilt)."`
	Back    bool   `xor:"to" help:"To the version that answered before."`
	Force   bool   `help:"Although it differs from the live one and the same fold made both."`
	DryRun  bool   `help:"Compare, and change nothing."`
	Yes     bool   `help:"Don't ask."`
	JSON    bool   `name:"json" help:"One object on one line."`
}

// Run compares, asks and swaps.
func (c *projectionsSwapCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	swap := client.ProjectionSwap{Version: c.Version, Back: c.Back, Force: c.Force, DryRun: true}
	if c.DryRun || !c.Yes {
		compared, err := cl.SwapProjection(a.ctx, c.Name, swap)
		if err != nil {
			return err
		}
		if c.DryRun {
			return printComparison(a, c.Name, compared, c.JSON)
		}
		if err := ask(a, fmt.Sprintf("%s\nLet version %d answer?", sayComparison(c.Name, compared), compared.Version)); err != nil {
			return err
		}
	}
	swap.DryRun = false
	done, err := cl.SwapProjection(a.ctx, c.Name, swap)
	if err != nil {
		return err
	}
	return printComparison(a, c.Name, done, c.JSON)
}

// ask asks, where there is somebody to ask.
func ask(a *app, question string) error {
	if !terminal(a.stdin) {
		return fmt.Errorf("%w: nobody can be asked here; say --yes, or --dry-run to see what it would do", program.ErrUsage)
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); err != nil || answer != "y" && answer != "yes" {
		return errDeclined
	}
	return nil
}

type projectionsDropCmd struct {
	api     `embed:""`
	Name    string `arg:"" help:"The projection: orders."`
	Version uint64 `arg:"" help:"The version."`
}

// Run forgets a version and its snapshot.
func (c *projectionsDropCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.DropProjection(a.ctx, c.Name, c.Version); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s: version %d is dropped\n", c.Name, c.Version)
	return err
}

func printComparison(a *app, name string, c client.ProjectionComparison, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.stdout).Encode(c)
	}
	fmt.Fprintln(a.stdout, sayComparison(name, c))
	for _, row := range c.First {
		fmt.Fprintf(a.stdout, "  %s\n    live     %s\n    version  %s\n", row.Key, orNone(row.Live), orNone(row.Version))
	}
	if c.Swapped {
		fmt.Fprintf(a.stdout, "version %d answers; version %d is kept to go back to\n", c.Version, c.Live)
	}
	return nil
}

// sayComparison is what a comparison found, in one line.
func sayComparison(name string, c client.ProjectionComparison) string {
	result := "equal, byte for byte"
	switch {
	case c.Equal:
	case c.SameFold:
		result = fmt.Sprintf("%d ROWS DIFFER, and the same fold made both", c.Differ)
	default:
		result = fmt.Sprintf("%d rows differ; the fold has changed", c.Differ)
	}
	if c.Parked > 0 {
		result += fmt.Sprintf("; %d events are parked", c.Parked)
	}
	return fmt.Sprintf("%s: version %d (%d rows) against live version %d (%d rows), both at %s: %s", name, c.Version, c.Rows, c.Live, c.LiveRows, position(c.Position), result)
}

func orNone(row string) string {
	if row == "" {
		return "(is not there)"
	}
	return row
}
