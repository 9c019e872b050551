package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// fold2 is a program whose fold has changed.
func fold2(c *tallyConfig) {
	c.Fold = 2
	c.New = func() *tally { m := newTally(); m.factor = 2; return m }
}

// A changed fold is what a rebuild is for: the old state goes on answering, the new one is built beside it, differs as it must, takes its place, and can be taken back.
func TestAChangedFoldIsRebuiltBesideTheLiveOne(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	for i := range 10 {
		s.raw(t, fmt.Sprint("ledger.a", i), amount(10))
	}
	s.run(t, nil).caughtUp().halt()

	p := s.run(t, fold2).caughtUp()
	if live := in(p.status(), store.RoleLive); live.Number != 1 || live.Fold != 1 || p.Live().total() != 100 {
		t.Fatalf("before the rebuild: %+v, total %d", live, p.Live().total())
	}
	if number := p.rebuilt(false); number != 2 {
		t.Fatalf("rebuilt version %d", number)
	}
	if p.Live().total() != 100 {
		t.Error("the rebuild shows before the swap")
	}
	c, err := p.Swap(testContext(t), store.SwapOptions{DryRun: true})
	if err != nil || c.Equal || c.SameFold || c.Differ != 10 || len(c.First) != 5 || c.First[0] != (store.RowDifference{Key: "ledger.a0", Live: "10", Version: "20"}) {
		t.Fatalf("dry run: %+v, %v", c, err)
	}
	if p.status().Live != 1 {
		t.Error("a dry run swaps")
	}
	if _, err := p.Swap(testContext(t), store.SwapOptions{}); err != nil {
		t.Fatal(err)
	}
	after := p.status()
	if after.Live != 2 || p.Live().total() != 200 || p.Live().promoted != 1 || in(after, store.RolePrevious).Number != 1 || in(after, store.RolePrevious).State != store.StateStored {
		t.Fatalf("after the swap: %+v, total %d", after, p.Live().total())
	}
	s.raw(t, "ledger.a0", amount(1))
	p.settle()
	if _, err := p.Swap(testContext(t), store.SwapOptions{Back: true}); err != nil {
		t.Fatal(err)
	}
	if p.status().Live != 1 || p.Live().total() != 102 { // 1 was folded by the new program
		t.Errorf("after the way back: %+v, total %d", p.status(), p.Live().total())
	}
	for _, number := range []uint64{1, 3} {
		if err := p.Drop(testContext(t), number); !errors.Is(err, store.ErrNoVersion) {
			t.Errorf("drop of version %d: %v", number, err)
		}
	}
	if err := p.Drop(testContext(t), 2); err != nil {
		t.Error(err)
	}
	if n := len(p.status().Versions); n != 1 {
		t.Errorf("%d versions are left", n)
	}
	if _, err := p.Swap(testContext(t), store.SwapOptions{}); !errors.Is(err, store.ErrNoVersion) {
		t.Errorf("swap to nothing: %v", err)
	}
}

// The same fold must come to the same state: where it does not, the swap is refused until somebody insists.
func TestADifferenceOfTheSameFoldIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	for _, subject := range []string{"ledger.a", "ledger.b", "other.c"} {
		s.raw(t, subject, amount(10))
	}
	made := 0
	p := s.run(t, func(c *tallyConfig) {
		c.New = func() *tally { // a fold that hangs on something else than the events
			m := newTally()
			made++
			m.factor = int64(made)
			return m
		}
	}).caughtUp()
	p.rebuilt(false)
	c, err := p.Swap(testContext(t), store.SwapOptions{})
	if !errors.Is(err, store.ErrDiffers) || c.Differ != 3 || c.Count != 3 || c.LiveCount != 3 || p.status().Live != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := p.Swap(testContext(t), store.SwapOptions{Force: true}); err != nil || p.status().Live != 2 {
		t.Fatalf("forced: %v", err)
	}
}

// While a swap is made under load, queries are answered all the time and never from an older state than before; both processes that keep the read model follow, and nothing is lost or doubled.
func TestASwapUnderLoadIsSeenByEveryProcess(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, server)
			for range 50 {
				s.raw(t, "ledger.a", amount(1))
			}
			first, second := s.run(t, nil).caughtUp(), s.run(t, nil).caughtUp()
			ctx, stop := context.WithCancel(context.Background())
			var others sync.WaitGroup
			sent := int64(50)
			// A steady load, not all that the machine has: behind a writer without a pace nobody catches up on a busy machine.
			pace := func(then func() bool) {
				ticks := time.NewTicker(time.Millisecond)
				defer ticks.Stop()
				for ctx.Err() == nil && then() {
					<-ticks.C
				}
			}
			others.Go(func() {
				pace(func() bool {
					s.raw(t, []string{"ledger.a", "other.b"}[sent%2], amount(1))
					sent++
					return true
				})
			})
			for _, p := range []*running{first, second} {
				others.Go(func() {
					last := int64(0)
					pace(func() bool {
						now := p.Live().total()
						if now < last {
							t.Errorf("the answer went back from %d to %d", last, now)
							return false
						}
						last = now
						return true
					})
				})
			}
			for range 3 {
				if _, err := first.Rebuild(testContext(t), false); err != nil {
					t.Fatal(err)
				}
				c, err := first.Swap(testContext(t), store.SwapOptions{})
				if err != nil || !c.Equal {
					t.Fatalf("%+v, %v", c, err)
				}
				eventstest.Eventually(t, waitLimit, "the other process answers from it", func() bool {
					return in(second.status(), store.RoleLive).State == store.StateReady && second.status().Live == c.Version
				})
			}
			stop()
			others.Wait()
			for _, p := range []*running{first, second} {
				eventstest.Eventually(t, waitLimit, "everything is folded once", func() bool { return p.Live().total() == sent })
			}
			if a, b := first.picture(), second.picture(); a != b {
				t.Errorf("one has\n%s\nthe other\n%s", a, b)
			}
		})
	}
}

// An event that can't be folded hides no other, holds back those of its subject, is told of, and survives a restart. A rebuild is strict, unless told otherwise.
func TestAnEventThatCantBeFolded(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	bad := amount(0)
	bad.Data = []byte(`{"amount":"much"}`)
	s.raw(t, "ledger.a", amount(1))
	s.raw(t, "ledger.a", bad)
	s.raw(t, "ledger.a", amount(2)) // behind the bad one
	s.raw(t, "ledger.b", amount(4))
	s.raw(t, "ledger.b", unknown())
	if _, err := s.js.Publish(testContext(t), "ledger.c", []byte("no event")); err != nil {
		t.Fatal(err)
	}
	s.raw(t, "other.a", amount(8)) // another stream's subject
	p := s.run(t, nil).caughtUp()
	for range 2 {
		live := in(p.settle(), store.RoleLive)
		if p.Live().total() != 13 || len(live.Parked) != 3 || live.Skipped["test.something.else.v1"] != 1 || live.Lag != 0 {
			t.Fatalf("total %d, %+v", p.Live().total(), live)
		}
		for i, want := range []struct {
			sequence uint64
			why      string
		}{{2, "no amount"}, {3, "earlier event"}, {6, "undecodable"}} {
			if got := live.Parked[i]; got.Sequence != want.sequence || got.Stream != ledger || !strings.Contains(got.Error, want.why) {
				t.Errorf("parked %+v, want %+v", got, want)
			}
		}
		p.halt()
		p = s.run(t, nil).caughtUp()
	}
	s.raw(t, "ledger.a", amount(16)) // is held back after the restart, too
	if live := in(p.settle(), store.RoleLive); p.Live().total() != 13 || len(live.Parked) != 4 {
		t.Fatalf("after the restart: total %d, %+v", p.Live().total(), live)
	}
	p.rebuilt(false)
	next := in(p.status(), store.RoleNext)
	if next.State != store.StateFailed || !errors.Is(next.Err, store.ErrFold) || !strings.Contains(next.Err.Error(), "LEDGER, sequence 2") {
		t.Fatalf("a strict rebuild: %+v", next)
	}
	if _, err := p.Swap(testContext(t), store.SwapOptions{Force: true}); !errors.Is(err, store.ErrNotReady) {
		t.Errorf("swap to a version that failed: %v", err)
	}
	if number := p.rebuilt(true); number != next.Number+1 {
		t.Errorf("version %d is built after version %d failed", number, next.Number)
	}
	c, err := p.Swap(testContext(t), store.SwapOptions{})
	if err != nil || !c.Equal || c.Parked != 4 || c.LiveParked != 4 {
		t.Errorf("%+v, %v", c, err)
	}
}

// So many bad events mean that the fold is wrong. The projection stops, and its position stays: nothing is lost.
func TestTooManyBadEventsStopTheProjection(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	for i := range 4 {
		ev := amount(1)
		ev.Data = []byte(`{}`)
		s.raw(t, fmt.Sprint("ledger.a", i), ev)
	}
	p := s.run(t, func(c *tallyConfig) { c.MaxParked = 3 })
	err := <-p.ended
	p.done = true
	if !errors.Is(err, store.ErrFold) || !strings.Contains(err.Error(), "sequence 4") {
		t.Fatalf("ended with %v", err)
	}
	fixed := s.run(t, func(c *tallyConfig) { c.MaxParked = 4 }).caughtUp()
	if live := in(fixed.settle(), store.RoleLive); live.At[ledger] != 4 || len(live.Parked) != 4 {
		t.Errorf("%+v", live)
	}
}

// A program that can't read the old parts answers from a version of its own, made from the logs, and makes it the live one; the old program goes on with what it has, also after a restart.
func TestAChangedLayout(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	s.raw(t, "ledger.a", amount(1))
	old := s.run(t, nil).caughtUp()
	fresh := s.run(t, func(c *tallyConfig) { c.Layout = 2; fold2(c) }).caughtUp()
	if fresh.Live().total() != 2 {
		t.Errorf("total %d", fresh.Live().total())
	}
	eventstest.Eventually(t, waitLimit, "the new one is live", func() bool { return fresh.status().Live == 2 })
	s.raw(t, "ledger.a", amount(1))
	old.settle()
	eventstest.Eventually(t, waitLimit, "both follow", func() bool { return old.Live().total() == 2 && fresh.Live().total() == 4 })
	old.halt()
	old = s.run(t, nil).caughtUp()
	if old.Live().total() != 2 || old.status().Live != 2 {
		t.Errorf("the old program after a restart: total %d, %+v", old.Live().total(), old.status())
	}
	fresh.halt()
	if again := s.run(t, func(c *tallyConfig) { c.Layout = 2; fold2(c) }).caughtUp(); again.Live().total() != 4 {
		t.Errorf("the new program after a restart: total %d", again.Live().total())
	}
}

// A rebuild outlives the process: what was built is kept, and the next process goes on with it.
func TestARebuildGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	s.raw(t, "ledger.a", amount(1))
	p := s.run(t, nil).caughtUp()
	number := p.rebuilt(false)
	p.halt()
	s.raw(t, "ledger.a", amount(1))
	p = s.run(t, nil).caughtUp()
	if next := in(p.status(), store.RoleNext); next.State != store.StateStored || next.At[ledger] != 1 || next.Lag != 1 {
		t.Errorf("%+v", next)
	}
	if again := p.rebuilt(false); again != number {
		t.Errorf("version %d, want %d", again, number)
	}
	if c, err := p.Swap(testContext(t), store.SwapOptions{}); err != nil || !c.Equal || p.Live().total() != 2 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestProjectionConfig(t *testing.T) {
	t.Parallel()
	err := tallyConfig{Name: "Two Words", MaxParked: -1}.Validate()
	if !errors.Is(err, store.ErrProjection) {
		t.Fatal(err)
	}
	for _, field := range []string{"Name", "Fold", "Layout", "Logs", "New", "MaxParked"} {
		if !strings.Contains(err.Error(), field+": ") {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
	if _, err := store.NewProjection(tallyConfig{}, store.ProjectionDeps{}); !errors.Is(err, store.ErrProjection) {
		t.Error(err)
	}
}
