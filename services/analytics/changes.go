package analytics

import (
	"net/http"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// feed tells readers of results as they come out. The follower gives it what it reads of WINDOWS, in its order. It never waits for a reader: one that does not keep up is cut
// off, and goes on later behind the last event that it has.
type feed struct {
	mu       sync.Mutex
	readers  map[*reader]struct{}
	most     int
	stopping bool
	servers  map[*http.Server]bool // whose end we are told of
}

const (
	mostReaders = 100
	readerRoom  = 1024 // results that may wait for a reader
)

// reader is one that is told.
type reader struct {
	query string  // empty: all
	key   *string // nil: all
	room  chan change
	ended chan struct{} // closed when it is told no more
	why   string        // then
}

// change is one result as it is stored in WINDOWS.
type change struct {
	sequence uint64
	item     windowItem
}

// Reasons to end a stream of changes.
const (
	endSlow     = "slow"     // the reader did not keep up
	endStopping = "stopping" // the server stops
)

func newFeed() *feed {
	return &feed{readers: make(map[*reader]struct{}), most: mostReaders, servers: make(map[*http.Server]bool)}
}

// join returns a reader, or nil where there are too many or the server stops.
func (f *feed) join(query string, key *string) *reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping || len(f.readers) >= f.most {
		return nil
	}
	r := &reader{query: query, key: key, room: make(chan change, readerRoom), ended: make(chan struct{})}
	f.readers[r] = struct{}{}
	return r
}

func (f *feed) leave(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.readers, r)
}

// watched says whether anybody is told.
func (f *feed) watched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.readers) > 0
}

// tell gives a result to all who want it.
func (f *feed) tell(c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		if !r.wants(&c.item) {
			continue
		}
		select {
		case r.room <- c:
		default:
			f.end(r, endSlow)
		}
	}
}

// end is called with the lock.
func (f *feed) end(r *reader, why string) {
	r.why = why
	close(r.ended)
	delete(f.readers, r)
}

// stop ends all readers: the server waits for them.
func (f *feed) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopping = true
	for r := range f.readers {
		f.end(r, endStopping)
	}
}

// endWith lets the readers end when a server begins to stop. Their streams would otherwise last as long as it has patience.
func (f *feed) endWith(s *http.Server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s != nil && !f.servers[s] {
		f.servers[s] = true
		s.RegisterOnShutdown(f.stop)
	}
}

func (r *reader) wants(w *windowItem) bool {
	return (r.query == "" || r.query == w.Query) && (r.key == nil || *r.key == w.Key)
}

func changeOf(sequence uint64, w *events.WindowResult) change {
	return change{sequence: sequence, item: windowItem{
		Query: w.Query, Key: w.Key, Start: w.Start.UTC(), End: w.End.UTC(), Value: w.Value, Count: w.Count, Top: w.Top,
		Revision: w.Revision, Timing: w.Timing, Sequence: w.Sequence,
	}}
}

const (
	beatEvery  = 15 * time.Second // a comment, so that proxies and readers see that the stream lives
	writeLimit = 5 * time.Second  // for one event
)
