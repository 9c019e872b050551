package analytics

import "sync"

// own are the ids of results that this instance has put into the index, since it has committed them, and then sends. The follower need not read them a second time, which costs as much as
// sending them, while the broker and we have the most to do.
type own struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

// mostOwn bounds what is noted and never seen, as when a publish failed. Forgetting costs time only: what is not known is read.
const mostOwn = 20_000

func (o *own) note(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids == nil || len(o.ids) >= mostOwn {
		o.ids = make(map[string]struct{})
	}
	o.ids[id] = struct{}{}
}

// take says whether an id was noted, and forgets it.
func (o *own) take(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, known := o.ids[id]
	delete(o.ids, id)
	return known
}
