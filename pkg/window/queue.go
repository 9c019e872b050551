package window

// timer says that at a watermark something is to be done with a session, or with a key of which only a tombstone is left.
type timer struct {
	due     int64
	session *live // nil: a tombstone
	key     string
}

// queue is a heap of timers, the earliest first. It is container/heap without its interface, which would cost an allocation a timer.
type queue []timer

func (q *queue) push(t timer) {
	*q = append(*q, t)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent].due <= h[i].due {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

func (q *queue) pop() timer {
	h := *q
	first := h[0]
	n := len(h) - 1
	h[0], h[n] = h[n], timer{}
	h = h[:n]
	*q = h
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if h[child].due < h[least].due {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
