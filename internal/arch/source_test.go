package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// source is one Go file of the module.
type source struct {
	path string // from the root of the module, with slashes
	fset *token.FileSet
	file *ast.File
	text []byte
}

func (s *source) test() bool {
	return strings.HasSuffix(s.path, "_test.go") || within(s.path, "pkg/events/eventstest")
}
func (s *source) generated() bool { return ast.IsGenerated(s.file) }

// imports reports whether the file imports the package, and under which name.
func (s *source) imports(path string) (name string, ok bool) {
	for _, spec := range s.file.Imports {
		if strings.Trim(spec.Path.Value, `"`) != path {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name, true
		}
		return path[strings.LastIndex(path, "/")+1:], true
	}
	return "", false
}

// calls hands every call of a function or method "x.name" to fn; x is "" where it is not a plain name.
func (s *source) calls(fn func(x, name string, at token.Pos)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
			x := ""
			if id, ok := selector.X.(*ast.Ident); ok {
				x = id.Name
			}
			fn(x, selector.Sel.Name, call.Pos())
		}
		return true
	})
}

// finding is one place that breaks a rule.
type finding struct {
	at   token.Pos
	what string
}

type sourceRule struct {
	name, why string
	broken    func(s *source) []finding
}

func TestSourceKeepsTheRules(t *testing.T) {
	t.Parallel()
	sources := readSources(t)
	for _, rule := range sourceRules() {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range sources {
				for _, f := range rule.broken(s) {
					t.Errorf("%s:%d: %s\nRule: %s.\nWhy: %s", s.path, s.fset.Position(f.at).Line, f.what, rule.name, rule.why)
				}
			}
		})
	}
}

func readSources(t *testing.T) []*source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var sources []*source
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(rel), text)
		if err == nil {
			sources = append(sources, s)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(sources, func(s *source) bool { return s.path == "pkg/events/topology.go" }) {
		t.Fatal("found no pkg/events/topology.go: these tests would look at nothing")
	}
	return sources
}

func parse(path string, text []byte) (*source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	return &source{path: path, fset: fset, file: file, text: text}, nil
}

func (s *source) lines() int { return bytes.Count(s.text, []byte("\n")) }
