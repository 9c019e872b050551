package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/asyncapi"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

type topologyCmd struct {
	Show     topologyShowCmd     `cmd:"" help:"Print the streams and consumer groups."`
	AsyncAPI topologyAsyncAPICmd `cmd:"" name:"asyncapi" help:"Print the AsyncAPI 3 document: who sends and receives what, where, in which form."`
	NATSConf topologyNATSConfCmd `cmd:"" name:"nats-conf" help:"Print the users of the broker and what each may do, as nats-server's configuration; make the keys that are missing."`
	Apply    topologyApplyCmd    `cmd:"" help:"Make or update them on a broker; --dry-run says what would change."`
	Keda     topologyKedaCmd     `cmd:"" help:"Print the manifests by which KEDA scales the workers: from none, by what waits for their groups."`
}

type topologyShowCmd struct {
	JSON bool `name:"json" help:"One object on one line."`
}

// Run prints the declaration; it needs no broker.
func (c *topologyShowCmd) Run(a *app) error {
	t := events.DefaultTopology(0)
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(t)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tSUBJECTS\tWHAT IT IS")
	for _, s := range t.Streams {
		subjects := slices.Clone(s.Subjects)
		for _, source := range s.Sources {
			subjects = append(subjects, "<"+source.Stream)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, strings.Join(subjects, " "), s.Description)
	}
	fmt.Fprintln(w, "\t\t\nGROUP\tREADS\tWHAT IT DOES")
	for _, g := range t.Groups {
		fmt.Fprintf(w, "%s\t%s, %d partitions\t%s\n", g.Name, g.Stream, g.Partitions, g.Description)
	}
	return w.Flush()
}

type topologyAsyncAPICmd struct {
	Host string `default:"127.0.0.1:4222" help:"The NATS server that the document names, host:port."`
	JSON bool   `name:"json" help:"On one line."`
}

// Run prints the document; it needs no broker.
func (c *topologyAsyncAPICmd) Run(a *app) error {
	registry, err := events.NewRegistry()
	if err != nil {
		return err
	}
	t := events.DefaultTopology(0)
	document, err := asyncapi.New(&t, registry, asyncapi.Info{
		Title: "Tidemark", Version: program.Version(), Host: c.Host,
		Description: "An event-driven order system on NATS JetStream: what its services publish, and what each consumer group reads.",
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(document)
	}
	out, err := document.JSON()
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(out)
	return err
}

type topologyNATSConfCmd struct {
	Data string `env:"TIDEMARK_DATA" default:".tidemark" help:"Data directory, which has the keys unless --keys says otherwise."`
	Keys string `env:"TIDEMARK_KEYS" help:"Directory of the seeds, <user>.nk (default: keys in the data directory). Those that are missing are made."`
	Out  string `help:"File to write it to, instead of printing it."`
}

// Run prints the configuration; it needs no broker. Public keys only are in it.
func (c *topologyNATSConfCmd) Run(a *app) error {
	dir := c.Keys
	if dir == "" {
		dir = filepath.Join(c.Data, natskeys.Dir)
	}
	t := events.DefaultTopology(0)
	if c.Out == "" {
		return natskeys.Configuration(a.stdout, dir, t.Users())
	}
	var text bytes.Buffer
	if err := natskeys.Configuration(&text, dir, t.Users()); err != nil {
		return err
	}
	return os.WriteFile(c.Out, text.Bytes(), 0o644) //nolint:gosec // it holds public keys, and the server is another user
}

type topologyApplyCmd struct {
	natsconn.Access `embed:""`

	NATS     string `name:"nats" env:"TIDEMARK_NATS_URL" default:"nats://127.0.0.1:4222" help:"NATS server."`
	Replicas int    `env:"TIDEMARK_REPLICAS" default:"1" help:"Copies of each stream: 1, or 3 on a cluster."`
	DryRun   bool   `help:"Say what would change, and change nothing."`
	JSON     bool   `name:"json" help:"With --dry-run: one object a change."`
}

// Run makes the topology real on the broker; it can be run again.
func (c *topologyApplyCmd) Run(a *app) error {
	provider, err := telemetry.New(telemetry.Config{Output: a.stderr})
	if err != nil {
		return err
	}
	nc, err := a.broker(natsconn.Config{URL: c.NATS, Name: "topology", User: events.UserOperator, Access: c.Access, Log: provider.Logger(), Patient: true})
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := program.AwaitConnected(a.ctx, nc); err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	t := events.DefaultTopology(0)
	if c.DryRun {
		return c.dryRun(a, js, t)
	}
	waiting := func(err error) { fmt.Fprintf(a.stderr, "waiting for the broker: %v\n", err) }
	if err := program.Apply(a.ctx, nc, t, c.Replicas, waiting); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%d streams, %d groups, %d buckets are in place\n", len(t.Streams), len(t.Groups), len(t.Buckets))
	return nil
}

func (c *topologyApplyCmd) dryRun(a *app, js jetstream.JetStream, t events.Topology) error {
	changes, err := bus.Plan(a.ctx, js, t, c.Replicas)
	if err != nil {
		return err
	}
	refused := 0
	for _, change := range changes {
		refused += len(change.Refused())
		if c.JSON {
			if err := json.NewEncoder(a.stdout).Encode(change); err != nil {
				return err
			}
		}
	}
	if !c.JSON {
		printChanges(a.stdout, changes)
	}
	if refused > 0 {
		return fmt.Errorf("%w: %d settings can't be changed", bus.ErrTopology, refused)
	}
	return nil
}

// printChanges prints a line a change, and below it a line a setting.
func printChanges(w io.Writer, changes []bus.Change) {
	if len(changes) == 0 {
		fmt.Fprintln(w, "nothing to change")
	}
	for _, change := range changes {
		verb := "update"
		if change.Create {
			verb = "create"
		}
		if len(change.Refused()) > 0 {
			verb = "REFUSE"
		}
		fmt.Fprintf(w, "%s %s %s\n", verb, change.Kind, change.Name)
		for _, d := range change.Differences {
			fmt.Fprintf(w, "    %s: %s -> %s\n", d.Setting, d.Stored, d.Wanted)
			if d.Loses {
				fmt.Fprintln(w, "        the broker forgets at once what is beyond the new limit")
			}
			if d.Cure != "" {
				fmt.Fprintf(w, "        %s\n", d.Cure)
			}
		}
	}
}
