package arch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tidemark/tidemark"

// pkg is what go list says of one package. Paths of the module are short: "./services/order".
type pkg struct {
	ImportPath  string
	Standard    bool
	Imports     []string
	TestImports []string // of the package's tests, those in package foo_test too
}

// graph is every package by its path, those of other modules and of the standard library too.
type graph map[string]pkg

// importRule looks at one package of the module. all are the packages that it imports, directly or not; tests are what its tests import directly.
type importRule struct {
	name, why string
	broken    func(p pkg, all []string, tests []string) []string
}

func importRules() []importRule {
	return []importRule{
		{
			"a service shares pkg/events and nothing else",
			"Services are deployed, scaled and replaced one by one. What two of them share besides the contract couples them, " +
				"and a service that calls another one waits for it. pkg/window is a library; internal/ is for programs and tests.",
			func(p pkg, all, tests []string) []string {
				own, ok := service(p.ImportPath)
				if !ok {
					return nil
				}
				bad := filter(all, func(q string) bool {
					return ours(q) && !within(q, own) && !within(q, "./pkg/events") && !within(q, "./pkg/window")
				})
				return append(bad, filter(tests, func(q string) bool {
					other, ok := service(q)
					return ok && other != own
				})...)
			},
		},
		{
			"pkg/window imports the standard library only",
			"The window engine is a pure state machine. Without a broker, a clock or a framework in it, every case of event time can be tested in microseconds.",
			func(p pkg, all, _ []string) []string {
				if !within(p.ImportPath, "./pkg/window") {
					return nil
				}
				return filter(all, func(q string) bool { return notStandard(q) && !within(q, "./pkg/window") })
			},
		},
		{
			"pkg/events does not import NATS",
			"The contract (envelope, catalogue, topology) must be usable by a producer that speaks HTTP, by a test and by a generator. pkg/events/bus and pkg/events/store are where it meets NATS.",
			func(p pkg, all, _ []string) []string {
				if p.ImportPath != "./pkg/events" {
					return nil
				}
				return filter(all, func(q string) bool { return within(q, "github.com/nats-io") })
			},
		},
		{
			"libraries do not import programs",
			"pkg/ is what others copy into their own systems. It can't bring services, internal packages or commands along.",
			func(p pkg, all, _ []string) []string {
				if !within(p.ImportPath, "./pkg") {
					return nil
				}
				return filter(all, func(q string) bool { return ours(q) && !within(q, "./pkg") })
			},
		},
		{
			"a service's program does not link nats-server",
			"A service is a client. The server in its program would cost ten megabytes, its start-up work and its security advisories in every container.",
			func(p pkg, all, _ []string) []string {
				if _, ok := serviceProgram(p.ImportPath); !ok {
					return nil
				}
				return filter(all, func(q string) bool { return within(q, "github.com/nats-io/nats-server") })
			},
		},
		{
			"a program does not link test code",
			"Test helpers have no limits and no security: what only tests need must not be in what runs.",
			func(p pkg, all, _ []string) []string {
				if !within(p.ImportPath, "./cmd") {
					return nil
				}
				return filter(all, func(q string) bool {
					return q == "testing" || within(q, "./pkg/events/eventstest") || within(q, "pgregory.net/rapid") || within(q, "go.uber.org/goleak") || within(q, "github.com/cloudevents/sdk-go")
				})
			},
		},
		{
			"the end-to-end suite knows its target only",
			"The same suite is run against one process, processes, containers and a cluster. What it imported of one of them would hold of that one only, " +
				"and what it shared with the system would share its mistakes.",
			func(p pkg, _, _ []string) []string {
				if !within(p.ImportPath, "./e2e/suite") {
					return nil
				}
				return filter(p.Imports, func(q string) bool {
					return (ours(q) || notStandard(q)) && !slices.Contains([]string{"./e2e/target", "./e2e/batch", "./pkg/events/eventstest"}, q)
				})
			},
		},
		{
			"a service's program runs its own service only",
			"Who starts cmd/order gets order. Another service inside would read groups that nobody expects there.",
			func(p pkg, all, _ []string) []string {
				name, ok := serviceProgram(p.ImportPath)
				if !ok {
					return nil
				}
				return filter(all, func(q string) bool {
					other, ok := service(q)
					return ok && other != "./services/"+name
				})
			},
		},
	}
}

func TestImportsKeepTheRules(t *testing.T) {
	t.Parallel()
	g := list(t)
	for _, rule := range importRules() {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			for _, finding := range rule.findings(g) {
				t.Errorf("%s\nRule: %s.\nWhy: %s", finding, rule.name, rule.why)
			}
		})
	}
}

func (r importRule) findings(g graph) []string {
	var out []string
	for path, p := range g {
		if !ours(path) {
			continue
		}
		all := g.closure(path)
		for _, bad := range r.broken(p, all, p.TestImports) {
			out = append(out, fmt.Sprintf("%s imports %s (%s)", path, bad, strings.Join(g.way(path, bad), " > ")))
		}
	}
	slices.Sort(out)
	return out
}

// closure are all packages that one imports, directly or not.
func (g graph) closure(path string) []string {
	seen := map[string]bool{path: true}
	queue := []string{path}
	for i := 0; i < len(queue); i++ {
		for _, q := range g[queue[i]].Imports {
			if !seen[q] {
				seen[q] = true
				queue = append(queue, q)
			}
		}
	}
	return queue[1:]
}

// way is a shortest way of imports from one package to another, so that a finding shows whom to ask.
func (g graph) way(from, to string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, q := range g[queue[0]].Imports {
			if _, seen := before[q]; !seen {
				before[q] = queue[0]
				queue = append(queue, q)
			}
		}
	}
	if _, found := before[to]; !found {
		return []string{from, "its tests", to}
	}
	var way []string
	for p := to; p != ""; p = before[p] {
		way = append(way, p)
	}
	slices.Reverse(way)
	return way
}

// list asks the go command for every package of the module and all that they import.
func list(t *testing.T) graph {
	t.Helper()
	run := func(args ...string) []pkg {
		out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
		if err != nil {
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				t.Fatalf("go list: %v\n%s", err, exit.Stderr)
			}
			t.Fatalf("go list: %v", err)
		}
		var pkgs []pkg
		for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
			var p struct {
				pkg
				XTestImports []string `json:"XTestImports"`
			}
			if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
				return pkgs
			} else if err != nil {
				t.Fatalf("go list: %v", err)
			}
			p.TestImports = append(p.TestImports, p.XTestImports...)
			pkgs = append(pkgs, p.pkg)
		}
	}
	g := make(graph)
	for _, p := range run("-deps", "-json=ImportPath,Standard,Imports,TestImports,XTestImports", module+"/...") {
		p.ImportPath = short(p.ImportPath)
		for _, names := range [][]string{p.Imports, p.TestImports} {
			for i, name := range names {
				names[i] = short(name)
			}
		}
		g[p.ImportPath] = p
	}
	for _, must := range []string{"./pkg/events", "./pkg/events/bus", "./cmd/tidemark"} {
		if _, ok := g[must]; !ok {
			t.Fatalf("go list does not show %s: these tests would look at nothing", must)
		}
	}
	return g
}

// short writes packages of the module as "./services/order", which can't be mistaken for one of the standard library.
func short(path string) string {
	if rest, ok := strings.CutPrefix(path, module+"/"); ok {
		return "./" + rest
	}
	return path
}

// within reports whether path is the package dir or lies below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func ours(path string) bool { return strings.HasPrefix(path, "./") }

// notStandard: the first element of a path of another module has a dot in it.
func notStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".")
}

func service(path string) (dir string, ok bool) {
	rest, ok := strings.CutPrefix(path, "./services/")
	name, _, _ := strings.Cut(rest, "/")
	return "./services/" + name, ok
}

func serviceProgram(path string) (name string, ok bool) {
	name, ok = strings.CutPrefix(path, "./cmd/")
	return name, ok && slices.Contains([]string{"order", "inventory", "notify", "analytics"}, name)
}

func filter(in []string, keep func(string) bool) []string {
	var out []string
	for _, s := range in {
		if keep(s) {
			out = append(out, s)
		}
	}
	return out
}
