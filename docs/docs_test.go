// Package docs tests that the documentation is true: links lead somewhere, lists are complete, and the commands that are marked with test= do what
// stands below them.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = ".."

// pages are all Markdown files of the project, by their path from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "bench/*.md", "deploy/*.md"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.ToSlash(rel)] = string(text)
		}
	}
	if out["README.md"] == "" || len(out) < 20 {
		t.Fatalf("found %d pages: these tests would look at nothing", len(out))
	}
	return out
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || target == "" {
				continue
			}
			path := filepath.Join(root, filepath.Dir(page), target)
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
			if anchor != "" && strings.HasSuffix(target, ".md") {
				t.Errorf("%s links to %s: link to the page, headings change", page, m[1])
			}
		}
	}
}

// A path in backticks that begins with one of our rooms is there.
func TestPathsAreThere(t *testing.T) {
	t.Parallel()
	path := regexp.MustCompile("`((?:pkg|services|cmd|internal|docs|e2e|bench)/[A-Za-z0-9_./-]*)`")
	for page, text := range pages(t) {
		for _, m := range path.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
	}
}

// Every page of docs can be reached from its index.
func TestEveryPageIsInTheIndex(t *testing.T) {
	t.Parallel()
	all := pages(t)
	index := all["docs/README.md"] + strings.ReplaceAll(all["docs/adr/README.md"], "](", "](adr/")
	for page := range all {
		rest, ok := strings.CutPrefix(page, "docs/")
		if ok && rest != "README.md" && !strings.Contains(index, "("+rest+")") {
			t.Errorf("%s is in no index", page)
		}
	}
}

func TestDependenciesAreThoseOfGoMod(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var required []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\s*(\S+/\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		required = append(required, m[1]) // a line with "// indirect" does not end with its version
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\|$").FindAllStringSubmatch(pages(t)["docs/dependencies.md"], -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(required)
	slices.Sort(listed)
	if len(required) < 10 || !slices.Equal(required, listed) {
		t.Errorf("docs/dependencies.md and go.mod differ:\nlisted   %q\nrequired %q", listed, required)
	}
}

// Every ADR has the usual parts.
func TestDecisionsHaveTheirParts(t *testing.T) {
	t.Parallel()
	n := 0
	for page, text := range pages(t) {
		if !strings.HasPrefix(page, "docs/adr/0") {
			continue
		}
		n++
		for _, part := range []string{"| Status |", "| Date |", "## Context", "## Decision", "## Consequences", "# " + filepath.Base(page)[:4] + ": "} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %q", page, part)
			}
		}
	}
	if n < 6 {
		t.Errorf("found %d decisions", n)
	}
}
