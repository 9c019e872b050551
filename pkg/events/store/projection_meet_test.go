package store

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// counter is a model that counts.
type counter struct{ n int }

func (c *counter) Fold(Recorded) error             { c.n++; return nil }
func (c *counter) Parts() []Part                   { return nil }
func (c *counter) Restore(string, []byte) error    { return nil }
func (c *counter) Rows() iter.Seq2[string, string] { return func(func(string, string) bool) {} }
func (c *counter) Count() int                      { return c.n }

// Two versions that meet stand at the position of the one that is ahead: the other is waited for, neither goes past it, and after the release both go on.
func TestVersionsMeetAtTheFarthestPosition(t *testing.T) {
	t.Parallel()
	p, err := NewProjection(ProjectionConfig[*counter]{
		Name: "n", Fold: 1, Layout: 1, Logs: []*Store{{asker: &asker{stream: "A"}}, {asker: &asker{stream: "B"}}}, New: func() *counter { return &counter{} }, SaveEvery: -1,
	}, ProjectionDeps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fold := func(v *version[*counter], log int, sequence uint64) error {
		return v.take(ctx, log, Recorded{Sequence: sequence}, nil)
	}
	a, b := p.newVersion(Version{Number: 1}), p.newVersion(Version{Number: 2})
	if err := errors.Join(fold(a, 0, 5), fold(a, 1, 1), fold(b, 0, 2), fold(b, 1, 7)); err != nil {
		t.Fatal(err)
	}
	met := make(chan func(), 1)
	go func() {
		release, err := meet(ctx, a, b)
		if err != nil {
			t.Error(err)
		}
		met <- release
	}()
	eventstest.Eventually(t, time.Minute, "they are to meet", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.hold != nil
	})
	past := make(chan error, 2)
	go func() { past <- fold(a, 0, 6) }()
	if err := errors.Join(fold(a, 1, 7), fold(b, 0, 4)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-met:
		t.Fatal("they met before one of them was there")
	default:
	}
	if err := fold(b, 0, 5); err != nil {
		t.Fatal(err)
	}
	go func() { past <- fold(b, 1, 8) }()
	release := <-met
	for _, v := range []*version[*counter]{a, b} {
		v.mu.Lock()
		if v.at[0] != 5 || v.at[1] != 7 {
			t.Errorf("version %d stands at %v", v.number, v.at)
		}
		v.mu.Unlock()
	}
	release()
	if err := errors.Join(<-past, <-past); err != nil {
		t.Fatal(err)
	}
	if a.at[0] != 6 || b.at[1] != 8 {
		t.Errorf("they went on to %v and %v", a.at, b.at)
	}
	if _, err := meet(canceled(), a, b); !errors.Is(err, context.Canceled) {
		t.Errorf("met without the time to do so: %v", err)
	}
	if err := errors.Join(fold(a, 0, 7), fold(b, 0, 7)); err != nil {
		t.Errorf("held after that: %v", err)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
