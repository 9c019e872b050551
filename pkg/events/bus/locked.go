package bus

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// locked holds the keys of a partition that have letters, for one term. A letter is the lock on its key (package deadletter); this is the owner's memory of it, so that an
// event costs one atomic load while no key is locked, and one look into a map otherwise. It is read anew at the beginning of each term, and the lock of each
// letter's subject stands behind it: an owner whose memory is wrong can't park.
type locked struct {
	some    atomic.Bool
	counted func(more int) // told how the number of keys changes

	mu   sync.Mutex
	keys map[string]*lock
	term *termWork
}

// lock is what the owner knows of one key.
type lock struct {
	last  uint64              // sequence of its last letter in DLQ; 0: not read yet
	held  map[uint64]struct{} // events that had a letter when the term began, by their sequence
	timer *time.Timer
	due   time.Time
}

// termWork is where work on letters goes that no message brings. It ends with the term, before the lanes are asked to become idle.
type termWork struct {
	mu    sync.Mutex
	over  bool
	lanes *lanes
}

// add hands work on a key to its lane. false: the term is over.
func (w *termWork) add(key string, do func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	w.lanes.add(&task{key: key, work: do})
	return true
}

func (w *termWork) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// begin forgets the last term.
func (l *locked) begin(keys map[string]int, term *termWork) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		k.stop()
	}
	l.counted(len(keys) - len(l.keys))
	l.keys, l.term = make(map[string]*lock, len(keys)), term
	for key := range keys {
		l.keys[key] = new(lock)
	}
	l.some.Store(len(keys) > 0)
}

// has reports whether a key is locked.
func (l *locked) has(key string) bool {
	if !l.some.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, yes := l.keys[key]
	return yes
}

// last is the sequence of a key's last letter. known is false where there are letters, but the last one was not read yet.
func (l *locked) last(key string) (sequence uint64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, yes := l.keys[key]
	if !yes {
		return 0, true
	}
	return k.last, k.last != 0
}

// lock notes a key's last letter.
func (l *locked) lock(key string, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		k = new(lock)
		l.keys[key] = k
		l.counted(1)
	}
	k.last = last
	l.some.Store(true)
}

// learn notes the letters that a key had when the term began, and returns the sequence of the last one.
func (l *locked) learn(key string, letters []deadletter.Letter) (last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil || len(letters) == 0 {
		return 0
	}
	k.held = make(map[uint64]struct{}, len(letters))
	for i := range letters {
		k.held[letters[i].StreamSeq] = struct{}{}
		k.last = letters[i].Sequence
	}
	return k.last
}

// holds reports whether an event of a key had a letter when the term began.
func (l *locked) holds(key string, sequence uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		return false
	}
	_, yes := k.held[sequence]
	return yes
}

// unlock frees a key without letters.
func (l *locked) unlock(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.keys[key]; k != nil {
		k.stop()
		delete(l.keys, key)
		l.counted(-1)
	}
	l.some.Store(len(l.keys) > 0)
}

// removed notes that a letter of a key is gone. Where it was the last one, the lock of the subject is another now.
func (l *locked) removed(key string, sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.keys[key]; k != nil && k.last == sequence {
		k.last = 0
	}
}

// soon does something in a key's lane at some time; the earliest call for a key counts.
func (l *locked) soon(key string, when time.Time, do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil || k.timer != nil && k.due.Before(when) && time.Now().Before(k.due) {
		return
	}
	k.stop()
	term := l.term
	k.due = when
	k.timer = time.AfterFunc(time.Until(when), func() { term.add(key, do) })
}

func (k *lock) stop() {
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
}

// end forgets everything, when the partition is another member's.
func (l *locked) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		k.stop()
	}
	l.counted(-len(l.keys))
	l.keys = nil
	l.some.Store(false)
}

// all are the locked keys.
func (l *locked) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := make([]string, 0, len(l.keys))
	for key := range l.keys {
		keys = append(keys, key)
	}
	return keys
}
