package bus

import "sync"

// lanes is the keyed executor of one partition: tasks of one key run one after the other in the order in which they were added, different keys run at
// once, at most limit of them. A lane is a goroutine. Keys take turns, so that a busy one keeps no other out.
//
// Waking a goroutine costs more than many a handler. So one lane starts at a time: when it has taken a task, it starts the next one if there still is something to
// take. Handlers that end at once are run by few lanes, task after task; handlers that wait get a lane each, as soon as one can run.
//
// A new goroutine begins with a small stack, and growing it to what a handler needs costs about as much as taking the event through the pipeline. So some lanes that find
// nothing to do are parked, until there is work or until done is called: every term ends with that, so none is left behind.
type lanes struct {
	limit int
	run   func(*task) bool // false: the task was given back

	mu       sync.Mutex
	keys     map[string]*keyQueue // keys with a task that runs or waits
	ready    queue[*keyQueue]     // keys with waiting tasks of which none runs
	running  int
	aside    int           // running, but not counted against limit
	starting bool          // a lane was started and has not taken a task yet
	idle     chan struct{} // closed when no lane runs; nil where nobody waits for that
	spare    []*keyQueue
	parked   []chan bool // lanes that wait for work, the last one to be woken first: its stack is the warmest. true: there is some; false: end
}

// maxParked bounds what stands idle: the stacks of a process with many partitions would add up.
const maxParked = 16

// keyQueue holds the waiting tasks of one key.
type keyQueue struct {
	key   string
	tasks queue[*task]
}

func newLanes(limit int, run func(*task) bool) *lanes {
	return &lanes{limit: limit, run: run, keys: make(map[string]*keyQueue)}
}

// add puts tasks behind those of their keys, in their order. It does not block.
func (l *lanes) add(ts ...*task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range ts {
		l.queue(t)
	}
	l.start()
}

func (l *lanes) queue(t *task) {
	q, busy := l.keys[t.key]
	if !busy {
		q = l.newQueue(t.key)
		l.keys[t.key] = q
		l.ready.push(q)
	}
	q.tasks.push(t)
}

// start starts a lane where a key waits for one and none is about to take it.
func (l *lanes) start() {
	if l.starting || l.running == l.limit || l.ready.empty() {
		return
	}
	l.starting = true
	l.running++
	n := len(l.parked)
	if n == 0 {
		go l.lane()
		return
	}
	l.parked[n-1] <- true // has room
	l.parked = l.parked[:n-1]
}

func (l *lanes) lane() {
	wake := make(chan bool, 1)
	for l.work(wake) {
		if more := <-wake; !more {
			return
		}
	}
}

// work runs tasks until there are none, and reports whether the lane is parked then.
func (l *lanes) work(wake chan bool) (parked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starting = false
	for q, ok := l.ready.pop(); ok; q, ok = l.ready.pop() {
		t, _ := q.tasks.pop() // a key is ready because a task waits
		l.start()
		l.mu.Unlock()
		done := l.run(t)
		l.mu.Lock()
		l.ended(q, done)
	}
	l.running--
	if l.idle != nil {
		l.atRest()
		return false
	}
	if len(l.parked) == maxParked {
		return false
	}
	l.parked = append(l.parked, wake)
	return true
}

// atRest tells who waits for it that nothing runs.
func (l *lanes) atRest() {
	if l.running+l.aside == 0 {
		close(l.idle)
		l.idle = nil
	}
}

// standAside lets another lane start while this one waits for something that the other may bring about. back ends that.
func (l *lanes) standAside() (back func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	l.aside++
	l.start()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.aside--
		l.running++
	}
}

// overtake takes the first work on a key's letters out of its queue; nil: there is none. It is for the task of the key that runs, and waits for just that.
func (l *lanes) overtake(key string) *task {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.keys[key]
	if q == nil {
		return nil
	}
	waiting := q.tasks.items[q.tasks.head:]
	for i, t := range waiting {
		if t.work != nil {
			q.tasks.items = append(q.tasks.items[:q.tasks.head+i], waiting[i+1:]...)
			return t
		}
	}
	return nil
}

// ended lets the next task of a key be taken. Behind a task that was given back nothing of its key may run: the newer events would overtake it.
func (l *lanes) ended(q *keyQueue, done bool) {
	if !done {
		q.tasks.clear()
	}
	if q.tasks.empty() {
		delete(l.keys, q.key)
		l.spare = append(l.spare, q)
		return
	}
	l.ready.push(q)
}

func (l *lanes) newQueue(key string) *keyQueue {
	if n := len(l.spare); n > 0 {
		q := l.spare[n-1]
		l.spare = l.spare[:n-1]
		q.key = key
		return q
	}
	return &keyQueue{key: key}
}

// forget drops what waits. What runs goes on.
func (l *lanes) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for q, ok := l.ready.pop(); ok; q, ok = l.ready.pop() {
		delete(l.keys, q.key)
	}
	for _, q := range l.keys {
		q.tasks.clear()
	}
}

// done returns a channel that is closed when nothing runs, and lets the parked lanes end. Nothing must be added before.
func (l *lanes) done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, wake := range l.parked {
		wake <- false // has room
	}
	l.parked = nil
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.atRest()
	return idle
}

// queue is a first-in first-out list that reuses its memory.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *queue[T]) pop() (v T, ok bool) {
	if q.empty() {
		return v, false
	}
	var zero T
	v, q.items[q.head] = q.items[q.head], zero
	q.head++
	if q.empty() {
		q.items, q.head = q.items[:0], 0
	}
	return v, true
}

func (q *queue[T]) empty() bool { return q.head == len(q.items) }

func (q *queue[T]) clear() {
	clear(q.items)
	q.items, q.head = q.items[:0], 0
}
