package check

import (
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// line is what the check needs of an order's line.
type line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// status is where the fold of ORDERS has an order.
type status uint8

const (
	unknown status = iota // named somewhere, never placed
	placed
	confirmed
	rejected
	cancelled
)

var statusNames = [...]string{"unknown", "placed", "confirmed", "rejected", "cancelled"}

func (s status) String() string { return statusNames[s] }
func (s status) ended() bool    { return s >= confirmed }

// order is what is kept of an order. Texts that repeat are numbers in names.
type order struct {
	id          string
	placedSeq   uint64 // in ORDERS; 0: never placed
	storedAt    int64  // ms since 1970, of order.placed
	minute      int64  // of the event time, minutes since 1970
	total       events.Minor
	confirmed   events.Minor // as order.confirmed says
	lines       uint64       // hash
	correlation uint64       // hash
	customer    uint32
	currency    uint32
	answered    uint64    // in ORDERS: the last event that the warehouse answered
	version     uint32    // events of ORDERS
	ended       uint32    // the version that ended it
	stock       uint32    // events of STOCK
	news        uint32    // a bit for each version that the customer must be told of
	told        [2]uint32 // a bit for each version that was told: by e-mail, by another channel
	status      status

	reservations, commits, releases uint8

	captured       uint8
	voided         bool
	paid           events.Minor
	paidCurrency   uint32
	hasCorrelation bool
}

// sku is what is kept of a SKU. A million orders share some thousands of them.
type sku struct {
	onHand, reserved int64
	received         int64
	sold             int64 // by the lines of orders whose stock was committed
	version          uint32
	outOfBounds      bool // was, at some prefix
}

// suspect is a stock.committed whose lines are not those of its order.
type suspect struct {
	order    uint32
	sequence uint64 // in STOCK
	lines    []line
}

// skip is an answer of the warehouse to an order's end that follows none to its beginning.
type skip struct {
	order    uint32
	sequence uint64 // in STOCK
}

// cause is the causation of an event that was not found at once.
type cause struct{ hash, sequence uint64 }

// state is the fold of the logs.
type state struct {
	registry *events.Registry
	hash     hasher
	names    map[string]uint32
	texts    []string

	index  map[string]uint32
	orders []order
	skus   map[string]*sku
	active map[uint32][]line // open reservations
	odd    []suspect

	skips []skip // answers to an order's end without one to its beginning

	ids     map[string]*idIndex // by stream
	mails   idIndex             // Message-IDs of mails that notices say were sent
	pending map[string][]cause  // by stream
	events  int
	stocks  int // events of STOCK

	negative, reserving, ending, versions, causes finding // invariants 1, 4, the S part of 5, 9, 10
	told7, order12                                finding // 7 and 12, as far as one log tells
}

func newState(registry *events.Registry) *state {
	s := &state{
		registry: registry,
		hash:     newHasher(), names: make(map[string]uint32), index: make(map[string]uint32), skus: make(map[string]*sku), active: make(map[uint32][]line),
		ids: make(map[string]*idIndex), pending: make(map[string][]cause),
	}
	for _, stream := range []string{events.StreamOrders, events.StreamStock, events.StreamNotices} {
		s.ids[stream] = &idIndex{}
	}
	return s
}

// name gives a text that repeats a number.
func (s *state) name(text string) uint32 {
	if n, ok := s.names[text]; ok {
		return n
	}
	text = strings.Clone(text)
	n := uint32(len(s.texts)) //nolint:gosec // customers and currencies, far below 2^32
	s.names[text] = n
	s.texts = append(s.texts, text)
	return n
}

// order finds an order, or begins to keep it.
func (s *state) order(id string) uint32 {
	if n, ok := s.index[id]; ok {
		return n
	}
	id = strings.Clone(id)     // it may be a part of a whole message
	n := uint32(len(s.orders)) //nolint:gosec // 2^32 orders don't fit into memory
	s.index[id] = n
	s.orders = append(s.orders, order{id: id})
	return n
}

func (s *state) sku(name string) *sku {
	if k, ok := s.skus[name]; ok {
		return k
	}
	k := &sku{}
	s.skus[strings.Clone(name)] = k
	return k
}

// message is an event as it is stored.
type message struct {
	event    events.Event
	stream   string
	tokens   []string // of the subject
	sequence uint64
	storedAt int64 // ms since 1970
}

// key is the token of the subject at a place, decoded.
func (m *message) key(at int) (string, bool) {
	if at >= len(m.tokens) {
		return "", false
	}
	key, err := events.Untoken(m.tokens[at])
	return key, err == nil
}

// fold takes one message of a log. What can't be read breaks invariant 9: it has no version that could be right.
func (s *state) fold(stream string, raw jetstream.Msg, meta *jetstream.MsgMetadata) {
	s.events++
	m := message{stream: stream, tokens: strings.Split(raw.Subject(), "."), sequence: meta.Sequence.Stream, storedAt: meta.Timestamp.UnixMilli()}
	var err error
	if m.event, err = s.registry.Decode(events.Header(raw.Headers()), raw.Data()); err != nil {
		s.versions.breaks("%s %d can't be read: %v", stream, m.sequence, err)
		return
	}
	s.ids[stream].add(s.hash.text(m.event.ID), m.sequence)
	switch stream {
	case events.StreamOrders:
		s.foldOrder(&m)
	case events.StreamStock:
		s.foldStock(&m)
	case events.StreamNotices:
		s.foldNotice(&m)
	}
}

// related checks what all events of one order have in common: the correlation, and a cause that exists.
func (s *state) related(m *message, o *order) {
	correlation := s.hash.text(m.event.CorrelationID)
	switch {
	case m.event.CorrelationID == "":
		s.causes.breaks("%s %d: order %s: has no correlation id", m.stream, m.sequence, o.id)
	case o.hasCorrelation && o.correlation != correlation:
		s.causes.breaks("%s %d: order %s: correlation id %q is not the order's", m.stream, m.sequence, o.id, m.event.CorrelationID)
	default:
		o.correlation, o.hasCorrelation = correlation, true
	}
	if m.event.CausationID == "" {
		return
	}
	hash := s.hash.text(m.event.CausationID)
	// Of what STOCK and NOTICES answer, ORDERS was read before. What ORDERS answers is found when all is read.
	if m.stream != events.StreamOrders && s.ids[events.StreamOrders].has(hash) {
		return
	}
	s.pending[m.stream] = append(s.pending[m.stream], cause{hash, m.sequence})
}

// versioned checks that the event is its aggregate's next.
func (s *state) versioned(m *message, what string, count uint32) {
	if m.event.Version != uint64(count) {
		s.versions.breaks("%s %d: %s: version %d, must be %d", m.stream, m.sequence, what, m.event.Version, count)
	}
}

// finding collects what an invariant's judgement is made of.
type finding struct {
	counted, waiting, broken int
	first                    string
}

func (f *finding) breaks(format string, args ...any) {
	f.broken++
	if f.first == "" {
		f.first = sprintf(format, args...)
	}
}
