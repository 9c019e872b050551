package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// level is a step of the ladder. Each has all that those before it have.
type level int

const (
	levelPlain level = iota
	levelHeaders
	levelPartitions
	levelLocks
	levelCopies
	levelRecords
	levelHTTP
	levels // how many there are
)

func (l level) String() string {
	return [...]string{
		"plain: 5 publishes, 6 deliveries",
		"+ the headers of our events",
		"+ partitions: 8 pinned consumers a group instead of one",
		"+ locks and ids; acknowledged when the answer is stored",
		"+ TIMELINE, which copies ORDERS and is read; deadlines as schedules",
		"+ contacts, notices, and three read models that follow the logs",
		"+ HTTP: the order and its payment",
	}[l]
}

// deliveries is how many messages of an order are delivered to a client.
func (l level) deliveries() int {
	switch {
	case l >= levelRecords:
		return 14
	case l >= levelCopies:
		return 8
	}
	return 6
}

// stored is how many messages of an order the streams hold, with the copies.
func (l level) stored() uint64 {
	switch {
	case l >= levelRecords:
		return 9
	case l >= levelCopies:
		return 7
	}
	return 5
}

// bareOrders does with the broker what the services do for an order, up to a level, and nothing else: no event is decoded, checked or folded, and nothing is kept for the case
// that something fails. All of it has one connection.
type bareOrders struct {
	*plainConn
	level    level
	names    names
	subjects events.Subjects
	body     []byte
	headers  headers
	contacts jetstream.KeyValue
	pay      func(ctx context.Context, order string) error

	waiting sync.Map       // *nats.Msg: what to do when it is stored
	stock   chan *decision // what the warehouse has to store
	ended   sync.Map       // order: a channel that is closed when a read model has seen its end
	flow    *flow
	stops   []func()
}

func newBareOrders(ctx context.Context, url string, l level, body []byte, h headers) (*bareOrders, error) {
	o := &bareOrders{level: l, names: names{level: l}, body: body, headers: h}
	conn, err := connectPlain(url, "", jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, _ *jetstream.PubAck) { o.stored(m) }))
	if err != nil {
		return nil, err
	}
	o.plainConn = conn
	topology := events.DefaultTopology(0)
	o.subjects = topology.Subjects()
	if l < levelRecords {
		return o, nil
	}
	o.contacts, err = o.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: o.names.stream(events.BucketContacts), Storage: jetstream.FileStorage})
	return o, err
}

// store publishes a message, and does something when it is stored. Below the level of locks, nobody waits for that.
func (o *bareOrders) store(m *nats.Msg, then func(), opts ...jetstream.PublishOpt) {
	if o.level >= levelLocks {
		m.Header[nats.MsgIdHdr] = m.Header[headerID]
		o.waiting.Store(m, then)
	}
	if _, err := o.js.PublishMsgAsync(m, opts...); err != nil {
		o.fail(err)
	}
	if o.level < levelLocks {
		then()
	}
}

// stored is called by the client library.
func (o *bareOrders) stored(m *nats.Msg) {
	if then, ok := o.waiting.LoadAndDelete(m); ok {
		then.(func())()
	}
}

func (o *bareOrders) message(subject, kind, order string) *nats.Msg {
	return &nats.Msg{Subject: o.names.subject(subject), Header: o.headers.of(kind, order), Data: o.body}
}

// behind is the lock of a subject: its last message has this sequence.
func (o *bareOrders) behind(stream string, sequence uint64) []jetstream.PublishOpt {
	if o.level < levelLocks {
		return nil
	}
	return []jetstream.PublishOpt{jetstream.WithExpectStream(o.names.stream(stream)), jetstream.WithExpectLastSequencePerSubject(sequence)}
}

// place stores an order's deadline, and then the order.
func (o *bareOrders) place(order string) {
	timer := o.message(o.subjects.Timer(order), kindTimer, order)
	placed := func() {
		o.store(o.message(o.subjects.Order(order), kindPlaced, order), func() {}, o.behind(events.StreamOrders, 0)...)
	}
	if o.level < levelCopies {
		o.store(timer, func() {})
		placed()
		return
	}
	due := time.Now().Add(time.Hour).Truncate(time.Second)
	o.store(timer, placed, jetstream.WithScheduleAt(due), jetstream.WithScheduleTarget(o.names.subject(o.subjects.Timeout(order))))
}

// on is what follows on a message that a group reads.
func (o *bareOrders) on(ctx context.Context, group string, m jetstream.Msg) {
	order, kind, done := lastToken(m.Subject()), kindOf(m.Headers()), func() { o.ack(m) }
	switch {
	case group == events.GroupInventory && kind == kindPlaced:
		o.decide(m, kindReserved, order, done)
	case group == events.GroupInventory && kind == kindConfirmed:
		o.decide(m, kindCommitted, order, done)
	case group == events.GroupOrderStock && kind == kindReserved:
		o.confirm(ctx, m, order, done)
	case group == events.GroupOrderStock && kind == kindCommitted:
		o.flow.end()
		done()
	case group == events.GroupNotify && o.level >= levelRecords:
		go o.tell(ctx, kind, order, done) // it waits for an answer, and others shall not wait for it
	default:
		done()
	}
}

func (o *bareOrders) ack(m jetstream.Msg) {
	if err := m.Ack(); err != nil {
		o.fail(err)
	}
	o.flow.handled <- struct{}{}
}

// confirm ends the order behind its first event, which the warehouse's answer names.
func (o *bareOrders) confirm(ctx context.Context, m jetstream.Msg, order string, done func()) {
	confirmed := func(placed uint64) {
		o.store(o.message(o.subjects.Order(order), kindConfirmed, order), done, o.behind(events.StreamOrders, placed)...)
	}
	if o.level < levelLocks {
		confirmed(0)
		return
	}
	placed, err := answered(m.Data())
	if err != nil {
		o.fail(err)
		return
	}
	if o.level < levelHTTP {
		confirmed(placed)
		return
	}
	go func() {
		if err := o.pay(ctx, order); err != nil {
			o.fail(err)
			return
		}
		confirmed(placed)
	}()
}

// tell looks for the customer's address, finds none, and notes that nothing was sent.
func (o *bareOrders) tell(ctx context.Context, kind, order string, done func()) {
	if _, err := o.contacts.Get(ctx, "c-0001"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		o.fail(fmt.Errorf("look for a contact that nobody has given: %w", err))
		return
	}
	version := uint64(1)
	if kind == kindConfirmed {
		version = 2
	}
	m := o.message(o.subjects.Notice(order, version, "email"), kindNotice, order)
	m.Header[headerID] = []string{"n" + kind[:3] + order[4:]}
	o.store(m, done, o.behind(events.StreamNotices, 0)...)
}
