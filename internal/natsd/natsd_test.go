package natsd_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/natsd"
)

func TestStoredStreamsAreThereAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stored := func(s *natsd.Server) jetstream.JetStream {
		nc, err := s.Connect()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return js
	}
	s := start(t, dir)
	js := stored(s)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, dir)
	defer func() { _ = again.Stop() }()
	stream, err := stored(again).Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "kept" {
		t.Errorf("after a restart: %v, %v", m, err)
	}
}

func start(t *testing.T, dir string) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(t.Context(), natsd.Config{Dir: dir, Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOneProcessADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	if _, err := natsd.Start(t.Context(), natsd.Config{Dir: dir, Addr: "127.0.0.1:0"}); !errors.Is(err, natsd.ErrInUse) {
		t.Errorf("a second server on the directory: %v, want %v", err, natsd.ErrInUse)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := start(t, dir).Stop(); err != nil {
		t.Error(err)
	}
}

func TestBadAddressIsNamed(t *testing.T) {
	t.Parallel()
	if _, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir(), Addr: "nonsense"}); err == nil {
		t.Error("an address without a port is accepted")
	}
}
