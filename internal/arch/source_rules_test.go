package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemark/tidemark/pkg/events"
)

// maxLines is for code; tests may hold longer tables.
const (
	maxLines     = 400
	maxTestLines = 500
)

func sourceRules() []sourceRule {
	return []sourceRule{
		{
			"only pkg/events/bus settles messages",
			"The order of a key across a crash hangs on when a message is acknowledged, and that is decided in one place. " +
				"A handler says what happened by the error that it returns.",
			func(s *source) []finding {
				if s.test() || within(s.path, "pkg/events/bus") || within(s.path, "bench") { // bench has a plain client to compare with
					return nil
				}
				return s.callsOnMessages("Ack", "DoubleAck", "InProgress", "Nak", "NakWithDelay", "Term", "TermWithReason")
			},
		},
		{
			"no message is refused",
			"In an ordered group a refused message comes back behind its successors, or never: the order of its key is lost. " +
				"Retries happen in the executor, and what can't be handled becomes a dead letter and is acknowledged.",
			func(s *source) []finding {
				if s.test() {
					return nil
				}
				return s.callsOnMessages("Nak", "NakWithDelay", "Term", "TermWithReason")
			},
		},
		{
			"only the topology spells streams and subjects",
			"A subject that is spelled twice is one day spelled in two ways, and an optimistic lock on a subject that nobody writes to always succeeds. " +
				"Use the constants and Subjects of pkg/events.",
			func(s *source) []finding {
				if s.test() || s.path == "pkg/events/topology.go" || s.path == "pkg/events/channels.go" {
					return nil
				}
				return s.spelled()
			},
		},
		{
			"no init functions",
			"What happens on import can't be ordered, tested or left out. main makes what there is, and says so.",
			func(s *source) []finding {
				var out []finding
				for _, d := range s.file.Decls {
					if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
						out = append(out, finding{f.Pos(), "func init"})
					}
				}
				return out
			},
		},
		{
			"no package state",
			"Variables of a package are shared by everything in the process: by two services in tidemark up, and by tests that run in parallel. " +
				"Hand things over as arguments. Errors, regular expressions, embedded files and interface checks never change, so they are free.",
			func(s *source) []finding {
				if s.test() {
					return nil
				}
				return s.packageState()
			},
		},
		{
			"no time.Sleep",
			"In a test it is too short on a slow machine and too long on every other: wait for the condition (eventstest.Eventually). " +
				"In a program it can't be ended by a context: use a timer and select. A handler in a test that plays a slow one says so: // work, not waiting",
			func(s *source) []finding {
				name, ok := s.imports("time")
				if !ok {
					return nil
				}
				return slices.DeleteFunc(s.callsOf(name, "Sleep"), func(f finding) bool { return s.test() && s.comment(f.at) == "// work, not waiting" })
			},
		},
		{
			"only main ends the process",
			"os.Exit and log.Fatal skip every deferred call: what is in flight is not settled, and what was written is not flushed. Return an error.",
			func(s *source) []finding {
				if s.test() || s.file.Name.Name == "main" || within(s.path, "internal/program") { // program is what every main begins with
					return nil
				}
				var out []finding
				if name, ok := s.imports("os"); ok {
					out = s.callsOf(name, "Exit")
				}
				if name, ok := s.imports("log"); ok {
					out = append(out, s.callsOf(name, "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln")...)
				}
				return out
			},
		},
		{
			fmt.Sprintf("a file has at most %d lines, a test %d", maxLines, maxTestLines),
			"A reader holds a file of this size in mind. What is longer has two subjects.",
			func(s *source) []finding {
				if s.generated() || s.lines() <= maxLines || s.test() && s.lines() <= maxTestLines {
					return nil
				}
				return []finding{{s.file.Package, fmt.Sprintf("%d lines", s.lines())}}
			},
		},
	}
}

// callsOnMessages finds methods with these names in files that know NATS messages.
func (s *source) callsOnMessages(names ...string) []finding {
	_, js := s.imports("github.com/nats-io/nats.go/jetstream")
	_, nc := s.imports("github.com/nats-io/nats.go")
	if !js && !nc {
		return nil
	}
	var out []finding
	s.calls(func(_, name string, at token.Pos) {
		if slices.Contains(names, name) {
			out = append(out, finding{at, "calls " + name})
		}
	})
	return out
}

// comment is the comment that ends the line of a place.
func (s *source) comment(at token.Pos) string {
	for _, group := range s.file.Comments {
		if group.Pos() > at && s.fset.Position(group.Pos()).Line == s.fset.Position(at).Line {
			return group.List[0].Text
		}
	}
	return ""
}

func (s *source) callsOf(pkg string, names ...string) []finding {
	var out []finding
	s.calls(func(x, name string, at token.Pos) {
		if x == pkg && slices.Contains(names, name) {
			out = append(out, finding{at, "calls " + pkg + "." + name})
		}
	})
	return out
}

// spelled finds string literals that are a stream's or bucket's name, or begin like a subject.
func (s *source) spelled() []finding {
	topology := events.DefaultTopology(0)
	names := make(map[string]bool)
	var prefixes []string
	for _, stream := range topology.Streams {
		names[stream.Name] = true
		for _, subject := range stream.Subjects {
			prefix, _, stars := strings.Cut(subject, ".*")
			if !stars {
				prefix = prefix[:strings.LastIndex(prefix, ".")]
			}
			prefixes = append(prefixes, regexp.QuoteMeta(prefix))
		}
	}
	for _, bucket := range topology.Buckets {
		names[bucket.Name] = true
	}
	// A subject has no blank; "orders.go" would be a file, and a Go file names none of ours.
	subject := regexp.MustCompile(`^(` + strings.Join(prefixes, "|") + `)\.[^\s/]*$`)
	var out []finding
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.Field:
			_, isImport := n.(*ast.ImportSpec)
			return !isImport && n.(*ast.Field).Tag == nil
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if n.Kind == token.STRING && err == nil && (names[text] || subject.MatchString(text)) {
				out = append(out, finding{n.Pos(), "spells " + n.Value})
			}
		}
		return true
	})
	return out
}

// packageState finds package variables that can change.
func (s *source) packageState() []finding {
	var out []finding
	for _, decl := range s.file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR || embeds(group.Doc) {
			continue
		}
		for _, spec := range group.Specs {
			v := spec.(*ast.ValueSpec)
			if embeds(v.Doc) {
				continue
			}
			for i, name := range v.Names {
				if name.Name != "_" && (len(v.Values) <= i || !unchanging(v.Values[i])) {
					out = append(out, finding{name.Pos(), "var " + name.Name})
				}
			}
		}
	}
	return out
}

func embeds(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// unchanging are values that nobody changes by using them: errors, compiled expressions, encodings, times, and tables that are arrays (whoever is
// handed one has a copy; slices and maps are shared). The bytes of a literal count as one: Go has no constants of them.
func unchanging(e ast.Expr) bool {
	if table, ok := e.(*ast.CompositeLit); ok {
		array, ok := table.Type.(*ast.ArrayType)
		return ok && array.Len != nil
	}
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	if _, conversion := call.Fun.(*ast.ArrayType); conversion && len(call.Args) == 1 {
		_, literal := call.Args[0].(*ast.BasicLit)
		return literal
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	if _, chained := selector.X.(*ast.CallExpr); chained {
		return unchanging(selector.X)
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && slices.Contains([]string{
		"errors.New", "fmt.Errorf", "regexp.MustCompile", "base32.NewEncoding", "base64.NewEncoding", "netip.MustParsePrefix", "netip.MustParseAddr", "template.Must", "crc32.MakeTable", "time.Unix", "time.Date",
	}, pkg.Name+"."+selector.Sel.Name)
}
