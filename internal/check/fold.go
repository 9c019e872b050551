package check

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemark/tidemark/pkg/events"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// foldOrder takes an event of ORDERS: its subject ends in the order's id.
func (s *state) foldOrder(m *message) {
	id, ok := m.key(len(m.tokens) - 1)
	if !ok {
		s.versions.breaks("%s %d: subject %s names no order", m.stream, m.sequence, strings.Join(m.tokens, "."))
		return
	}
	o := &s.orders[s.order(id)]
	o.version++
	s.versioned(m, "order "+o.id, o.version)
	s.related(m, o)
	if o.status.ended() {
		s.ending.breaks("ORDERS %d: order %s is %s, and %s follows", m.sequence, o.id, o.status, m.event.Type)
		return
	}
	if m.event.Type != events.TypeOrderPlaced && o.status == unknown {
		s.ending.breaks("ORDERS %d: order %s was never placed, and %s follows", m.sequence, o.id, m.event.Type)
	}
	if v := m.event.Version; v >= 1 && v <= toldVersions && isNews(m.event.Type) {
		o.news |= 1 << (v - 1)
	}
	o.ended = uint32(min(m.event.Version, math.MaxUint32)) //nolint:gosec // it fits now
	switch m.event.Type {
	case events.TypeOrderPlaced:
		s.foldPlaced(m, o)
	case events.TypeOrderConfirmed:
		o.status = confirmed
		p, err := events.Payload[events.OrderConfirmed](&m.event)
		o.confirmed = p.Total
		s.named(m, o.id, p.OrderID, err)
	case events.TypeOrderRejected:
		o.status = rejected
		p, err := events.Payload[events.OrderRejected](&m.event)
		s.named(m, o.id, p.OrderID, err)
	case events.TypeOrderCancelled:
		o.status = cancelled
		p, err := events.Payload[events.OrderCancelled](&m.event)
		s.named(m, o.id, p.OrderID, err)
	}
}

// isNews: customers are told of these.
func isNews(eventType string) bool {
	switch eventType {
	case events.TypeOrderPlaced, events.TypeOrderConfirmed, events.TypeOrderRejected, events.TypeOrderCancelled:
		return true
	}
	return false
}

func (s *state) foldPlaced(m *message, o *order) {
	if o.status != unknown {
		s.ending.breaks("ORDERS %d: order %s is placed twice", m.sequence, o.id)
		return
	}
	p, err := events.Payload[placedPayload](&m.event)
	s.named(m, o.id, p.OrderID, err)
	o.status, o.placedSeq, o.storedAt = placed, m.sequence, m.storedAt
	o.minute = floorMinute(m.event.Time.Unix())
	o.total, o.lines = p.Total, s.hash.lines(p.Lines)
	o.customer, o.currency = s.name(p.CustomerID), s.name(p.Currency)
}

// placedPayload is the part of order.placed that the check needs.
type placedPayload struct {
	OrderID    string       `json:"order_id"`
	CustomerID string       `json:"customer_id"`
	Currency   string       `json:"currency"`
	Lines      []line       `json:"lines"`
	Total      events.Minor `json:"total_minor"`
}

func floorMinute(seconds int64) int64 {
	const minute = 60
	if seconds < 0 {
		seconds -= minute - 1
	}
	return seconds / minute
}

// named checks that the payload can be read and is about what the subject says.
func (s *state) named(m *message, subject, payload string, err error) {
	if err != nil {
		s.versions.breaks("%s %d can't be read: %v", m.stream, m.sequence, err)
		return
	}
	if subject != payload {
		s.versions.breaks("%s %d: the subject names %q, the payload %q", m.stream, m.sequence, subject, payload)
	}
}

// foldStock takes an event of STOCK: a receipt of a SKU, or what was decided about an order.
func (s *state) foldStock(m *message) {
	s.stocks++
	key, ok := m.key(len(m.tokens) - 1)
	if !ok {
		s.versions.breaks("STOCK %d: subject %s names nothing", m.sequence, strings.Join(m.tokens, "."))
		return
	}
	if m.event.Type == events.TypeStockReceived {
		s.foldReceipt(m, key)
		return
	}
	n := s.order(key)
	o := &s.orders[n]
	o.stock++
	s.versioned(m, "stock of order "+o.id, o.stock)
	s.related(m, o)
	d, err := events.Payload[decision](&m.event)
	s.named(m, o.id, d.OrderID, err)
	s.inOrder(m, n, o, d.OrderSeq)
	switch m.event.Type {
	case events.TypeStockReserved:
		s.foldReserved(m, n, o, d.Lines)
	case events.TypeStockCommitted:
		s.foldCommitted(m, n, o, d.Lines)
	case events.TypeStockReleased:
		o.releases++
		s.move(m, d.Lines, 0, -1)
		delete(s.active, n)
	}
}

// decision is the part of the warehouse's decisions that the check needs.
type decision struct {
	OrderID  string `json:"order_id"`
	OrderSeq uint64 `json:"order_seq"`
	Lines    []line `json:"lines"`
}

// inOrder checks that what the warehouse answers does not go backwards, and notes where it leaves out an order's beginning.
func (s *state) inOrder(m *message, n uint32, o *order, answers uint64) {
	if answers < o.answered {
		s.order12.breaks("STOCK %d: order %s: answers ORDERS %d after %d", m.sequence, o.id, answers, o.answered)
	}
	o.answered = max(o.answered, answers)
	end := m.event.Type == events.TypeStockCommitted || m.event.Type == events.TypeStockReleased
	if end && o.stock == 1 && o.placedSeq > 0 {
		s.skips = append(s.skips, skip{n, m.sequence})
	}
}

func (s *state) foldReceipt(m *message, name string) {
	p, err := events.Payload[events.StockReceived](&m.event)
	s.named(m, name, p.SKU, err)
	k := s.sku(name)
	k.version++
	s.versioned(m, "SKU "+name, k.version)
	k.received += p.Quantity
	s.move(m, []line{{SKU: name, Quantity: p.Quantity}}, 1, 0)
}

func (s *state) foldReserved(m *message, n uint32, o *order, lines []line) {
	if o.reservations+o.commits+o.releases > 0 {
		s.reserving.breaks("STOCK %d: order %s reserves after %d reservations, %d commits and %d releases", m.sequence, o.id, o.reservations, o.commits, o.releases)
	}
	o.reservations++
	s.active[n] = append(s.active[n], lines...)
	s.move(m, lines, 0, 1)
}

func (s *state) foldCommitted(m *message, n uint32, o *order, lines []line) {
	o.commits++
	delete(s.active, n)
	s.move(m, lines, -1, -1)
	if o.commits == 1 && s.hash.lines(lines) == o.lines {
		for _, l := range lines {
			s.sku(l.SKU).sold += l.Quantity
		}
		return
	}
	s.odd = append(s.odd, suspect{order: n, sequence: m.sequence, lines: cloneLines(lines)})
}

func cloneLines(lines []line) []line {
	lines = slices.Clone(lines)
	for i := range lines {
		lines[i].SKU = strings.Clone(lines[i].SKU)
	}
	return lines
}

// move changes what is on hand and what is reserved by the lines, and checks that neither leaves its bounds.
func (s *state) move(m *message, lines []line, onHand, reserved int64) {
	for _, l := range lines {
		k := s.sku(l.SKU)
		k.onHand += onHand * l.Quantity
		k.reserved += reserved * l.Quantity
	}
	for _, l := range lines {
		k := s.sku(l.SKU)
		if k.outOfBounds || k.onHand >= 0 && k.reserved >= 0 && k.reserved <= k.onHand {
			continue
		}
		k.outOfBounds = true
		s.negative.breaks("STOCK %d: SKU %s has %d on hand and %d reserved", m.sequence, l.SKU, k.onHand, k.reserved)
	}
}

// foldNotice takes an event of NOTICES. Its subject has the order's id at the same place as that of ORDERS; version and channel follow.
func (s *state) foldNotice(m *message) {
	const orderToken, versionToken, channelToken = 2, 3, 4
	id, ok := m.key(orderToken)
	channel, also := m.key(channelToken)
	if !ok || !also {
		s.versions.breaks("NOTICES %d: subject %s names no order and channel", m.sequence, strings.Join(m.tokens, "."))
		return
	}
	n := s.order(id)
	o := &s.orders[n]
	s.related(m, o)
	s.toldOnce(m, o, m.tokens[versionToken], channel)
	if channel != channelEmail || m.event.Type != events.TypeNoticeSent {
		return
	}
	if p, err := events.Payload[events.Notice](&m.event); err == nil && p.MessageID != "" {
		s.mails.add(s.hash.text(p.MessageID), m.sequence)
	}
}

const (
	channelEmail   = "email"
	channelWebhook = "webhook"
)

func (s *state) toldOnce(m *message, o *order, version, channel string) {
	v, err := strconv.ParseUint(version, 10, 32)
	if err != nil || v < 1 || v > toldVersions {
		return
	}
	told := &o.told[0]
	switch channel {
	case channelEmail:
	case channelWebhook:
		told = &o.told[1]
	default:
		return
	}
	bit := uint32(1) << (v - 1)
	if *told&bit != 0 {
		s.told7.breaks("NOTICES %d: order %s, version %d: is told by %s again", m.sequence, o.id, v, channel)
	}
	*told |= bit
}
