package bus

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// puller asks one durable consumer for messages, over the pull request of the JetStream API, with the pin.
//
// The client library's Consume asks for more as messages are taken from it. An owner must do two things that it can't: ask for no more than
// it has room for, and keep the pin while it has no room. The pin lives on requests alone: an owner that waits for a slow handler would lose it.
//
// A puller serves one term (see doc.go): its inbox is new, so that nothing that was asked for before a reset can come in after it.
// Its methods are for one goroutine.
type puller struct {
	nc      *nats.Conn
	subject string // of the pull requests
	inbox   string
	sub     *nats.Subscription
	msgs    chan *nats.Msg
	pin     string        // empty: not pinned, the first message brings it
	most    int           // messages asked for at once
	expires time.Duration // of one request

	open     int       // messages asked for and not here
	requests []request // that the broker may still answer
	asked    uint64
	rest     time.Time // no request before, since the last one was refused

	keep *keepAlive
}

// request is one that was sent.
type request struct {
	name    string // last token of its reply subject
	batch   int
	expires time.Time
}

// pullRequest is the body of $JS.API.CONSUMER.MSG.NEXT.
type pullRequest struct {
	Batch    int           `json:"batch"`
	Expires  time.Duration `json:"expires,omitempty"`
	MaxBytes int           `json:"max_bytes,omitempty"`
	NoWait   bool          `json:"no_wait,omitempty"`
	Group    string        `json:"group"`
	Pin      string        `json:"id,omitempty"`
}

const pinHeader = "Nats-Pin-Id"

// newPuller subscribes; ask asks. Without a pin it stands by: its first message is the sign that it was given the pin.
func newPuller(js jetstream.JetStream, stream, consumer, pin string, most int, pinnedTTL time.Duration) (*puller, error) {
	nc := js.Conn()
	p := &puller{
		nc: nc, subject: lookup.APIPrefix(js) + "CONSUMER.MSG.NEXT." + stream + "." + consumer, inbox: nc.NewInbox(),
		pin: pin, most: most, expires: max(pinnedTTL/2, 500*time.Millisecond),
	}
	const statuses = 64 // room for what the broker says beside messages; of those at most 1½ times most are asked for
	p.msgs = make(chan *nats.Msg, 2*most+statuses)
	sub, err := nc.ChanSubscribe(p.inbox+".*", p.msgs)
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", consumer, err)
	}
	p.sub = sub
	if pin != "" {
		p.keep = startKeepAlive(nc, p.subject, p.inbox, pin, pinnedTTL)
	}
	return p, nil
}

// want asks for more where there is room and half of what was asked for is here. room does not yet count what was asked for.
func (p *puller) want(room int) error {
	n := min(room-p.open, p.most)
	if n <= 0 || p.open > p.most/2 {
		return nil
	}
	now := time.Now()
	if now.Before(p.rest) {
		return nil
	}
	body, err := json.Marshal(pullRequest{Batch: n, Expires: p.expires, Group: pinGroup, Pin: p.pin})
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	p.asked++
	r := request{name: strconv.FormatUint(p.asked, 10), batch: n, expires: now.Add(p.expires)}
	if err := p.nc.PublishRequest(p.subject, p.inbox+"."+r.name, body); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	p.open += n
	p.requests = append(p.requests, r)
	p.keep.asked(now)
	return nil
}

// answer is what the broker sent: a message, or news about a request.
type answer int

const (
	answerMessage answer = iota
	answerNews           // a request ended; ask again
	answerPinLost        // another member is the owner, or may become it
	answerGone           // the consumer does not exist any more
)

// read says what m is and keeps count. Stored messages come with the subject they were stored under, news with the inbox's.
func (p *puller) read(m *nats.Msg) answer {
	if !strings.HasPrefix(m.Subject, p.inbox) {
		p.open--
		return answerMessage
	}
	description := strings.ToLower(m.Header.Get("Description"))
	switch status := m.Header.Get("Status"); {
	case status == "423":
		return answerPinLost
	case strings.Contains(description, "consumer deleted"):
		return answerGone
	case strings.Contains(description, "leadership change"), strings.Contains(description, "server shutdown"):
		return answerPinLost // the next leader knows of no pin
	default:
		p.ended(m, status)
		return answerNews
	}
}

// ended takes a request off the books.
func (p *puller) ended(m *nats.Msg, status string) {
	name := m.Subject[len(p.inbox)+1:]
	i := slices.IndexFunc(p.requests, func(r request) bool { return r.name == name })
	if i < 0 {
		return // of a keep-alive, or told twice
	}
	left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	if err != nil { // refused as a whole
		left = p.requests[i].batch
	}
	if status != "408" {
		p.rest = time.Now().Add(restAfterRefusal)
	}
	p.open -= left
	p.requests = slices.Delete(p.requests, i, i+1)
}

const restAfterRefusal = 100 * time.Millisecond

// lost reports whether more is missing than the broker may still send: it sent messages that did not come in, as when the connection broke. It would not send
// them again before AckWait.
func (p *puller) lost(now time.Time) bool {
	coming := 0
	p.requests = slices.DeleteFunc(p.requests, func(r request) bool { return now.After(r.expires.Add(p.expires)) })
	for _, r := range p.requests {
		coming += r.batch
	}
	return p.open > coming
}

// forget starts the books anew, for one who does not care what was lost.
func (p *puller) forget() { p.open, p.requests = 0, nil }

// stop ends the pulling. What is asked for but not here stays in the broker: nobody listens, so it sends nothing.
func (p *puller) stop() {
	p.keep.stop()
	_ = p.sub.Unsubscribe() // the connection may be closed, then it ended with it
}

const keepAliveName = "keep"

// keepAlive keeps the pin while its owner has no reason to ask for messages. A request resets the pin's clock when it reaches the broker; this one
// allows one byte, so no message ever fits it, and the broker drops it.
type keepAlive struct {
	nc             *nats.Conn
	subject, reply string
	body           []byte
	every          time.Duration

	mu    sync.Mutex
	last  time.Time
	timer *time.Timer // nil: stopped
}

func startKeepAlive(nc *nats.Conn, subject, inbox, pin string, pinnedTTL time.Duration) *keepAlive {
	body, _ := json.Marshal(pullRequest{Batch: 1, MaxBytes: 1, NoWait: true, Group: pinGroup, Pin: pin}) // strings and numbers: can't fail
	k := &keepAlive{nc: nc, subject: subject, reply: inbox + "." + keepAliveName, body: body, every: pinnedTTL / 4}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer = time.AfterFunc(0, k.beat)
	return k
}

func (k *keepAlive) beat() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer == nil {
		return
	}
	if now := time.Now(); now.Sub(k.last) >= k.every {
		_ = k.nc.PublishRequest(k.subject, k.reply, k.body) // fails on a closed connection only, and then the pin is lost anyway
		k.last = now
	}
	k.timer.Reset(k.every)
}

// asked says that a request went out, which keeps the pin as well.
func (k *keepAlive) asked(now time.Time) {
	if k == nil {
		return
	}
	k.mu.Lock()
	k.last = now
	k.mu.Unlock()
}

func (k *keepAlive) stop() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
}
