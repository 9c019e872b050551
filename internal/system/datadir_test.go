package system_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/internal/system"
)

func TestDataOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		marker string
		is     error
		want   string
	}{
		"newer": {`{"format": 99, "written_by": "9.0.0"}`, system.ErrNewerData, "has format 99 and was written by tidemark 9.0.0; this program reads formats up to 1"},
		"torn":  {`{"for`, nil, "does not say which format it has"},
		"empty": {`{}`, nil, "does not say which format it has"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, system.MarkerFile)
			if err := os.WriteFile(path, []byte(c.marker), 0o600); err != nil {
				t.Fatal(err)
			}
			out := new(output)
			s, err := system.New(config(t, dir, out))
			if err != nil {
				t.Fatal(err)
			}
			err = s.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != c.marker {
				t.Errorf("the marker is now %s (%v)", after, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "nats")); err == nil {
				t.Error("the broker has been started on it")
			}
		})
	}
}

func TestDataDirectoryIsMarked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir).stop()
	path := filepath.Join(dir, system.MarkerFile)
	if raw, err := os.ReadFile(path); err != nil || string(raw) != `{"format":1,"written_by":"test"}`+"\n" {
		t.Errorf("marker %s (%v)", raw, err)
	}
	// A directory from before there were markers opens, and has one then. So does one of another version with the same format.
	for _, before := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.WriteFile(path, []byte(`{"format":1,"written_by":"0.0.1"}`), 0o600) },
	} {
		if err := before(); err != nil {
			t.Fatal(err)
		}
		start(t, dir).stop()
		if raw, err := os.ReadFile(path); err != nil || !strings.Contains(string(raw), `"test"`) {
			t.Errorf("marker %s (%v)", raw, err)
		}
	}
}

func TestTakenAddressSaysWhatToDo(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config(t, t.TempDir(), new(output))
	cfg.HTTP = l.Addr().String()
	s, err := system.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), cfg.HTTP) || !strings.Contains(err.Error(), "--http") {
		t.Errorf("got %v", err)
	}
}
