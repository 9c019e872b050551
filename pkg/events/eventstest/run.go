package eventstest

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// Run starts one server, hands it to body and stops it: for code that is no test, such as a runnable example. What fails a test panics here.
func Run(body func(s *Server)) {
	s := &script{}
	defer s.end()
	body(Start(s))
}

// script stands in for a test. The embedded interface is nil: what is not here is not used by this package.
type script struct {
	testing.TB
	cleanups []func()
}

func (s *script) Helper()                   {}
func (s *script) Logf(string, ...any)       {}
func (s *script) Cleanup(f func())          { s.cleanups = append(s.cleanups, f) }
func (s *script) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func (s *script) TempDir() string {
	dir, err := os.MkdirTemp("", "eventstest")
	if err != nil {
		s.Fatalf("make directory: %v", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (s *script) end() {
	for _, v := range slices.Backward(s.cleanups) {
		v()
	}
}
