package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// decision is a message that the warehouse has to store.
type decision struct {
	msg  *nats.Msg
	done func()
}

// The warehouse appends what waits one by one while few wait, and else as one atomic batch: inventory's rule on one server.
const (
	stockQueue     = 1024
	stockBatchFrom = 100
	stockBatchMost = 200
)

const beforeSequence = `{"order_seq":`

// decide stores the warehouse's answer, which says what it answers.
func (o *bareOrders) decide(m jetstream.Msg, kind, order string, done func()) {
	msg := o.message(o.subjects.StockOrder(order), kind, order)
	if o.level < levelLocks {
		o.store(msg, done)
		return
	}
	meta, err := m.Metadata()
	if err != nil {
		o.fail(err)
		return
	}
	msg.Data = append(strconv.AppendUint([]byte(beforeSequence), meta.Sequence.Stream, 10), ',')
	msg.Data = append(msg.Data, o.body[1:]...)
	o.stock <- &decision{msg: msg, done: done}
}

// answered is the sequence of the order that an answer is about.
func answered(data []byte) (uint64, error) {
	rest, _ := bytes.CutPrefix(data, []byte(beforeSequence))
	digits, _, _ := bytes.Cut(rest, []byte{','})
	return strconv.ParseUint(string(digits), 10, 64)
}

// startWarehouse begins the one writer of STOCK. Its lock is the stream's last sequence.
func (o *bareOrders) startWarehouse(ctx context.Context) error {
	stream, err := o.js.Stream(ctx, o.names.stream(events.StreamStock))
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	o.stock = make(chan *decision, stockQueue)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.warehouse(ctx, last)
	}()
	o.stops = append(o.stops, func() {
		close(o.stock)
		<-ended
	})
	return nil
}

func (o *bareOrders) warehouse(ctx context.Context, last uint64) {
	var waiting []*decision
	for {
		if len(waiting) == 0 {
			d, ok := <-o.stock
			if !ok {
				return
			}
			waiting = append(waiting, d)
		}
		waiting = o.drain(waiting)
		n := 1
		if len(waiting) >= stockBatchFrom {
			n = len(waiting)
		}
		if err := o.appendStock(ctx, last, waiting[:n]); err != nil {
			o.fail(fmt.Errorf("append to the warehouse's log behind %d: %w", last, err))
			return
		}
		last += uint64(n)
		for _, d := range waiting[:n] {
			d.done()
		}
		waiting = append(waiting[:0], waiting[n:]...)
	}
}

// drain adds what waits, without waiting for more.
func (o *bareOrders) drain(waiting []*decision) []*decision {
	for len(waiting) < stockBatchMost && len(o.stock) > 0 {
		waiting = append(waiting, <-o.stock) // nobody else takes from it
	}
	return waiting
}

// appendStock stores decisions, all or none, and waits for the broker's word.
func (o *bareOrders) appendStock(ctx context.Context, last uint64, all []*decision) error {
	id := events.NewID()
	for i, d := range all {
		h := d.msg.Header
		h[nats.MsgIdHdr] = h[headerID]
		if len(all) > 1 {
			h["Nats-Batch-Id"], h["Nats-Batch-Sequence"] = []string{id}, []string{strconv.Itoa(i + 1)}
		}
	}
	first, final := all[0].msg, all[len(all)-1].msg
	first.Header["Nats-Expected-Stream"] = []string{o.names.stream(events.StreamStock)}
	first.Header["Nats-Expected-Last-Sequence"] = []string{strconv.FormatUint(last, 10)}
	if len(all) > 1 {
		final.Header["Nats-Batch-Commit"] = []string{"1"}
	}
	for _, d := range all[:len(all)-1] {
		if err := o.nc.PublishMsg(d.msg); err != nil {
			return err
		}
	}
	reply, err := o.nc.RequestMsgWithContext(ctx, final)
	if err != nil {
		return err
	}
	return refusal(reply.Data)
}

func refusal(answer []byte) error {
	var a struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return err
	}
	if a.Error != nil {
		return a.Error
	}
	return nil
}
