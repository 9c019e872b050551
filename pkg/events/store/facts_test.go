package store_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// These tests pin what the store relies on, or avoids, in nats-server itself. One that fails after an upgrade says what to think about again.

// publish tells how the server answers a bare message; code is 0 where it is stored.
func publish(t *testing.T, js jetstream.JetStream, subject string, headers map[string]string) (ack *jetstream.PubAck, code jetstream.ErrorCode) {
	t.Helper()
	msg := nats.NewMsg(subject)
	for k, v := range headers {
		msg.Header[k] = []string{v}
	}
	ack, err := js.PublishMsg(testContext(t), msg)
	if err == nil {
		return ack, 0
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		t.Fatalf("publish to %s: %v", subject, err)
	}
	return nil, api.ErrorCode
}

const (
	expectedOfSubject = "Nats-Expected-Last-Subject-Sequence"
	expectedFilter    = "Nats-Expected-Last-Subject-Sequence-Subject"
)

// The second try of a stored message is refused on one server, where the lock is looked at first, and called a duplicate on three.
func TestFactSecondTryIsAnsweredDifferently(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := start(t, server).JetStream()
			headers := map[string]string{nats.MsgIdHdr: "x", expectedOfSubject: "0"}
			if _, code := publish(t, js, "ledger.a", headers); code != 0 {
				t.Fatalf("first try: %d", code)
			}
			ack, code := publish(t, js, "ledger.a", headers)
			if name == "R1" && code != 10071 {
				t.Errorf("R1: %+v, %d", ack, code)
			}
			if name == "R3" && (ack == nil || !ack.Duplicate || ack.Sequence != 1) {
				t.Errorf("R3: %+v, %d", ack, code)
			}
		})
	}
}

// A filter is not compared with the message that it stands on: one that matches nothing is no lock at all. The store offers none.
func TestFactAWildcardLockHoldsNothing(t *testing.T) {
	t.Parallel()
	js := start(t, eventstest.Start).JetStream()
	for i := range 3 {
		if _, code := publish(t, js, "ledger.a", map[string]string{expectedOfSubject: "0", expectedFilter: "leger.>"}); code != 0 {
			t.Errorf("message %d behind a misspelt filter: %d", i, code)
		}
	}
	if _, code := publish(t, js, "ledger.a", map[string]string{expectedOfSubject: "0"}); code != 10071 {
		t.Errorf("a message behind its own subject: %d", code)
	}
}

// Deleting an aggregate's last event would turn its lock back: what was decided without the deleted event would be accepted. So event stores deny it, and
// with atomic batches the server keeps to that.
func TestFactAnEventStoreKeepsItsEvents(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, server)
			s := set.open(t)
			mustAppend(t, s, "ledger.a", 0, amount(1), amount(2))
			stream, err := set.JetStream().Stream(testContext(t), ledger)
			if err != nil {
				t.Fatal(err)
			}
			config := stream.CachedInfo().Config
			if !config.DenyDelete || !config.DenyPurge || !config.AllowAtomicPublish || config.AllowRollup {
				t.Errorf("effective configuration: %+v", config)
			}
			for what, attempt := range map[string]func() error{
				"delete":        func() error { return stream.DeleteMsg(testContext(t), 2) },
				"secure delete": func() error { return stream.SecureDeleteMsg(testContext(t), 2) },
				"purge":         func() error { return stream.Purge(testContext(t)) },
				"purge subject": func() error { return stream.Purge(testContext(t), jetstream.WithPurgeSubject("ledger.a")) },
			} {
				if err := attempt(); err == nil {
					t.Errorf("%s succeeds", what)
				}
			}
			if _, code := publish(t, set.JetStream(), "ledger.a", map[string]string{"Nats-Rollup": "sub"}); code == 0 {
				t.Error("a rollup succeeds")
			}
			if n := len(mustLoad(t, s, "ledger.a")); n != 2 {
				t.Errorf("%d events are left", n)
			}
		})
	}
}

// Without that protection the lock does go back.
func TestFactADeletedEventTurnsTheLockBack(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	js := set.JetStream()
	stream, err := js.CreateStream(testContext(t), jetstream.StreamConfig{Name: "OPEN", Subjects: []string{"open.*"}})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := publish(t, js, "open.a", map[string]string{expectedOfSubject: "0"})
	second, _ := publish(t, js, "open.a", map[string]string{expectedOfSubject: strconv.FormatUint(first.Sequence, 10)})
	if err := stream.DeleteMsg(testContext(t), second.Sequence); err != nil {
		t.Fatal(err)
	}
	if _, code := publish(t, js, "open.a", map[string]string{expectedOfSubject: strconv.FormatUint(first.Sequence, 10)}); code != 0 {
		t.Errorf("behind the event before the deleted one: %d", code)
	}
}

// Schedules take the protection of a stream away without a word. No event store may have them.
func TestFactSchedulesClearDenyPurge(t *testing.T) {
	t.Parallel()
	js := start(t, eventstest.Start).JetStream()
	stream, err := js.CreateStream(testContext(t), jetstream.StreamConfig{Name: "OPEN", Subjects: []string{"open.*"}, DenyPurge: true, AllowMsgSchedules: true})
	if err != nil {
		t.Fatal(err)
	}
	if config := stream.CachedInfo().Config; config.DenyPurge {
		t.Error("DenyPurge is kept beside schedules: the topology could have both")
	}
}

// The three codes that can mean "it was you", each provoked: 10071 and 10201 by a second try, 10164 while another write is in flight.
func TestFactCodesOfASecondTry(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, server)
			nc := set.Connect()
			batch := func(id, expected string) jetstream.ErrorCode {
				t.Helper()
				js, err := jetstream.New(nc)
				if err != nil {
					t.Fatal(err)
				}
				first := nats.NewMsg("ledger.a")
				first.Header = nats.Header{"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {"1"}, nats.MsgIdHdr: {"1"}, expectedOfSubject: {expected}}
				if err := nc.PublishMsg(first); err != nil {
					t.Fatal(err)
				}
				_, code := publish(t, js, "ledger.a", map[string]string{"Nats-Batch-Id": id, "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1", nats.MsgIdHdr: "2"})
				return code
			}
			if code := batch("x", "0"); code != 0 {
				t.Fatalf("batch: %d", code)
			}
			if code := batch("y", "2"); code != 10201 {
				t.Errorf("the same ids again: %d", code)
			}
			if code := batch("z", "0"); code != 10201 && code != 10071 {
				t.Errorf("the same batch again: %d", code)
			}
			if _, code := publish(t, set.JetStream(), "ledger.a", map[string]string{expectedOfSubject: "0"}); code != 10071 {
				t.Errorf("one message behind an old sequence: %d", code)
			}
		})
	}
}

// On three servers a lock on a subject that somebody is just writing to is refused without a sequence.
func TestFactCodeWhileAnotherWriteIsInFlight(t *testing.T) {
	t.Parallel()
	js := start(t, eventstest.StartCluster).JetStream()
	for range 200 {
		var futures []jetstream.PubAckFuture
		for range 50 {
			msg := &nats.Msg{Subject: "ledger.a", Header: nats.Header{expectedOfSubject: {"0"}}}
			f, err := js.PublishMsgAsync(msg)
			if err != nil {
				t.Fatal(err)
			}
			futures = append(futures, f)
		}
		for _, f := range futures {
			select {
			case <-f.Ok():
			case err := <-f.Err():
				var api *jetstream.APIError
				if errors.As(err, &api) && api.ErrorCode == 10164 {
					return
				}
			}
		}
	}
	t.Error("10164 did not come: is the code still in use?")
}
