package bus

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// TestLanes: whatever the keys and the limit, tasks of one key run one at a time and in order, and no more than the limit at once.
func TestLanes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		keys := rapid.SliceOfN(rapid.IntRange(0, 12), 0, 300).Draw(t, "keys")
		var mu sync.Mutex
		got, busy, most := map[string][]uint64{}, map[string]bool{}, 0
		l := newLanes(limit, func(task *task) bool {
			mu.Lock()
			if busy[task.key] {
				t.Errorf("two tasks of %s at once", task.key)
			}
			busy[task.key] = true
			most = max(most, len(busy))
			mu.Unlock()
			mu.Lock()
			defer mu.Unlock()
			delete(busy, task.key)
			got[task.key] = append(got[task.key], task.seq.stream)
			return true
		})
		want := map[string][]uint64{}
		for i, k := range keys {
			key := fmt.Sprint(k)
			want[key] = append(want[key], uint64(i))
			l.add(&task{key: key, seq: sequences{stream: uint64(i)}})
		}
		<-l.done()
		if most > limit {
			t.Errorf("%d ran at once, limit %d", most, limit)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("ran %v, want %v", got, want)
		}
		if len(l.keys) != 0 || !l.ready.empty() || l.running != 0 {
			t.Errorf("left over: %d keys, %d running", len(l.keys), l.running)
		}
	})
}

// TestLanesFill: handlers that wait keep no other key out while the limit is not reached, though lanes start one after the other.
func TestLanesFill(t *testing.T) {
	t.Parallel()
	const limit = 64
	var together sync.WaitGroup
	together.Add(limit)
	l := newLanes(limit, func(*task) bool {
		together.Done()
		together.Wait() // for ever, if fewer than the limit can run at once
		return true
	})
	for i := range limit {
		l.add(&task{key: fmt.Sprint(i)})
	}
	<-l.done()
}

// TestLanesPark: lanes that find nothing to do wait for the next task, no more than some of them, and done ends them all. (The bubble would not end before they do.)
func TestLanesPark(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 2 * maxParked
		var together sync.WaitGroup
		l := newLanes(limit, func(*task) bool {
			together.Done()
			together.Wait()
			return true
		})
		run := func(n, parked int) {
			together.Add(n)
			for i := range n {
				l.add(&task{key: fmt.Sprint(i)})
			}
			synctest.Wait()
			if len(l.parked) != parked || l.running != 0 {
				t.Errorf("%d tasks: %d lanes are parked and %d run, want %d and none", n, len(l.parked), l.running, parked)
			}
		}
		run(1, 1)
		run(1, 1)
		run(limit, maxParked)
		run(limit, maxParked)
		<-l.done()
		if len(l.parked) != 0 {
			t.Errorf("%d lanes are parked behind the end", len(l.parked))
		}
	})
}

// TestLanesGiveBack: behind a task that was given back nothing of its key runs.
func TestLanesGiveBack(t *testing.T) {
	t.Parallel()
	first, release := make(chan struct{}), make(chan struct{})
	var ran atomic.Int32
	l := newLanes(4, func(task *task) bool {
		if task.seq.stream == 0 {
			close(first)
			<-release
			return false
		}
		ran.Add(1)
		return true
	})
	l.add(&task{key: "a"})
	<-first
	l.add(&task{key: "a", seq: sequences{stream: 1}})
	l.add(&task{key: "b", seq: sequences{stream: 2}})
	close(release)
	<-l.done()
	if ran.Load() != 1 {
		t.Errorf("%d ran, want only the one of the other key", ran.Load())
	}
}

// TestLanesForget: what waits is dropped, what runs goes on, and the lanes can be used again.
func TestLanesForget(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	var ran atomic.Int32
	l := newLanes(1, func(*task) bool {
		if ran.Add(1) == 1 {
			close(started)
			<-release
		}
		return true
	})
	for i := range 9 {
		l.add(&task{key: fmt.Sprint(i % 3)})
	}
	<-started
	l.forget()
	close(release)
	<-l.done()
	if ran.Load() != 1 {
		t.Errorf("%d ran, want 1", ran.Load())
	}
	l.add(&task{key: "0"})
	<-l.done()
	if ran.Load() != 2 {
		t.Errorf("%d ran, want 2", ran.Load())
	}
}

// TestWindow compares the window with what it stands for: a list of events, each done or not.
func TestWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 9).Draw(t, "size")
		w := newWindow(size)
		var all []*task
		floor, seq := uint64(0), uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				if w.free(0) == 0 {
					t.Skip("full")
				}
				seq += rapid.Uint64Range(1, 3).Draw(t, "step")
				all = append(all, &task{seq: sequences{stream: seq}})
				w.add(all[len(all)-1])
			},
			"finish": func(t *rapid.T) {
				var running []*task
				for _, x := range all {
					if !x.done {
						running = append(running, x)
					}
				}
				if len(running) == 0 {
					t.Skip("nothing runs")
				}
				w.finish(rapid.SampledFrom(running).Draw(t, "task"))
			},
			"": func(t *rapid.T) {
				open := 0
				for i, x := range all {
					if !x.done {
						open = len(all) - i
						break
					}
					floor = x.seq.stream
				}
				if got := w.free(0); got != size-open {
					t.Fatalf("free %d, want %d", got, size-open)
				}
				if f, a := w.bounds(); f != floor || a != seq {
					t.Fatalf("bounds %d, %d; want %d, %d", f, a, floor, seq)
				}
				states := map[uint64]bool{}
				for _, x := range all {
					states[x.seq.stream] = x.done
				}
				for s := uint64(1); s <= seq+1; s++ {
					finished, accepted := states[s]
					done, inFlight := w.known(s)
					if done != (finished || s <= floor) || inFlight != (accepted && !finished) {
						t.Fatalf("sequence %d: done %t, in flight %t", s, done, inFlight)
					}
				}
			},
		})
	})
}

// TestQueue: first in, first out, whatever the pushes and pops.
func TestQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q queue[int]
		var want []int
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"push":  func(*rapid.T) { n++; q.push(n); want = append(want, n) },
			"clear": func(*rapid.T) { q.clear(); want = nil },
			"pop": func(t *rapid.T) {
				v, ok := q.pop()
				if ok != (len(want) > 0) {
					t.Fatalf("pop: %t with %d inside", ok, len(want))
				}
				if ok {
					if v != want[0] {
						t.Fatalf("popped %d, want %d", v, want[0])
					}
					want = want[1:]
				}
			},
			"": func(t *rapid.T) {
				if q.empty() != (len(want) == 0) {
					t.Fatal("empty is wrong")
				}
			},
		})
	})
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"ORDERS 17 > > orders.1.o id": "ORDERS 17", "ORDERS": "TIMELINE 3", "": "TIMELINE 3"} {
		stream, seq := origin(in, "TIMELINE", 3)
		if got := fmt.Sprint(stream, " ", seq); got != want {
			t.Errorf("origin(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestSampled(t *testing.T) {
	t.Parallel()
	const base = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
	for in, want := range map[string]bool{base + "01": true, base + "00": false, base + "03": true, base + "02": false, "": true, "garbage": true} {
		if got := sampled(in); got != want {
			t.Errorf("sampled(%q) = %t", in, got)
		}
	}
}
