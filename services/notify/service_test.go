package notify

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tidemark/tidemark/internal/mailsink"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestEachEventSendsItsMailOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	s.start(Config{})
	sent := append(s.order("o1", placed("o1", "c1"), confirmed("o1", "c1")),
		s.order("o2", events.OrderRejected{OrderID: "o2", CustomerID: "c1", Reason: events.ReasonOutOfStock, Detail: "internal"})...)
	sent = append(sent, s.order("o3", events.OrderCancelled{OrderID: "o3", CustomerID: "c1", Reason: "changed my mind"})...)
	s.awaitNotices(4)
	s.awaitDone()

	mails := map[string]mailsink.Mail{}
	for _, m := range s.mails() {
		mails[m.MessageID] = m
	}
	if len(mails) != 4 || s.sink.Total() != 4 {
		t.Fatalf("%d mails, want 4", s.sink.Total())
	}
	for i, want := range []struct {
		order   string
		version uint64
		subject string
		body    []string
	}{
		{"o1", 1, "We have your order o1", []string{"1,200 x 85123A at 1.00", "1 x 71053 at 34.50", "Total:  GBP 1,234.50", "1 December 2010, 08:26 UTC"}},
		{"o1", 2, "Your order o1 is confirmed", []string{"GBP 1,234.50", "pay_1"}},
		{"o2", 1, "We can't fulfil your order o2", []string{"not all articles of your order are in stock"}},
		{"o3", 1, "Your order o3 is cancelled", []string{"Reason: changed my mind"}},
	} {
		id := fmt.Sprintf("%s.%d.email@tidemark.local", want.order, want.version)
		m := mails[id]
		if m.Subject != want.subject || len(m.To) != 1 || m.To[0] != "ann@customers.example" || m.From != "shop@tidemark.example" || m.Attempts != 1 {
			t.Errorf("mail %s: %+v", id, m)
		}
		for _, part := range want.body {
			if !strings.Contains(m.Body, part) {
				t.Errorf("mail %s does not say %q:\n%s", id, part, m.Body)
			}
		}
		if strings.Contains(m.Body, "internal") {
			t.Errorf("mail %s says what is the shop's own business:\n%s", id, m.Body)
		}
		r, n := s.notice(want.order, want.version, channelEmail)
		if r.Type != events.TypeNoticeSent || r.Source != source || r.ID != events.DeriveID(sent[i].ID, channelEmail, "notice") || r.CausationID != sent[i].ID ||
			r.CorrelationID != want.order || r.PartitionKey != want.order || r.Version != 1 {
			t.Errorf("notice of %s: %+v", id, r.Event)
		}
		if n != (events.Notice{OrderID: want.order, OrderVersion: want.version, Channel: channelEmail, EventType: sent[i].Type, MessageID: id}) {
			t.Errorf("notice of %s: %+v", id, n)
		}
	}
}

func TestWithoutAnAddressNothingIsSent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("deleted", "gone@customers.example")
	bucket, err := s.js.KeyValue(t.Context(), events.BucketContacts)
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	s.address("empty", "")
	in := s.start(Config{})
	for _, customer := range []string{"never", "deleted", "empty"} {
		s.order("o-"+customer, placed("o-"+customer, customer))
	}
	s.awaitNotices(3)
	for _, customer := range []string{"never", "deleted", "empty"} {
		r, n := s.notice("o-"+customer, 1, channelEmail)
		if r.Type != events.TypeNoticeSkipped || n.Reason != "no address" || n.MessageID != "" {
			t.Errorf("%s: %s %+v", customer, r.Type, n)
		}
	}
	if s.sink.Total() != 0 || in.count("skipped") != 3 {
		t.Errorf("%d mails, %d skipped; want 0, 3", s.sink.Total(), in.count("skipped"))
	}
}

func TestATemporaryRefusalIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	if err := s.sink.SetFaults(mailsink.Faults{TemporaryRate: 1}); err != nil {
		t.Fatal(err)
	}
	in := s.start(Config{Retries: manyRetries()})
	s.order("o1", placed("o1", "c1"))
	eventstest.Eventually(t, limit, "two attempts failed", func() bool { return in.count("failed") >= 2 })
	if err := s.sink.SetFaults(mailsink.Faults{}); err != nil {
		t.Fatal(err)
	}
	s.awaitNotices(1)
	s.awaitDone()
	mails := s.mails()
	if len(mails) != 1 || mails[0].Refused < 2 || mails[0].Attempts != mails[0].Refused+1 {
		t.Errorf("mails are %+v, want one, taken once after refusals", mails)
	}
}

func manyRetries() []time.Duration {
	waits := make([]time.Duration, 100)
	for i := range waits {
		waits[i] = 20 * time.Millisecond
	}
	return waits
}

func TestAPermanentRefusalIsADeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	if err := s.sink.SetFaults(mailsink.Faults{PermanentRate: 1}); err != nil {
		t.Fatal(err)
	}
	s.start(Config{})
	s.order("o1", placed("o1", "c1"))
	l := s.letter("o1")
	if reason, attempts := l.Header.Get(deadletter.HeaderReason), l.Header.Get(deadletter.HeaderAttempts); reason != string(deadletter.ReasonPermanent) || attempts != "1" {
		t.Errorf("reason %s after %s attempts, want permanent after 1", reason, attempts)
	}
	if text := l.Header.Get(deadletter.HeaderError); !strings.Contains(text, "550") || strings.Contains(text, "ann") {
		t.Errorf("the letter says %q: want the answer, and no address", text)
	}
}

func TestAnInvalidAddressIsADeadLetter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example\r\nBcc: eve@evil.example")
	s.start(Config{})
	s.order("o1", placed("o1", "c1"))
	if text := s.letter("o1").Header.Get(deadletter.HeaderError); !strings.Contains(text, "address is not valid") || strings.Contains(text, "ann") {
		t.Errorf("the letter says %q", text)
	}
	if s.sink.Total() != 0 {
		t.Error("a mail was sent")
	}
}

// An event whose names do not agree must not be told under another order's name.
func TestAnEventUnderAnotherOrdersSubjectIsADeadLetter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	s.start(Config{})
	s.order("o1", placed("o2", "c1"))
	if reason := s.letter("o1").Header.Get(deadletter.HeaderReason); reason != string(deadletter.ReasonPermanent) {
		t.Errorf("reason %s", reason)
	}
	if s.sink.Total() != 0 {
		t.Error("a mail was sent")
	}
}

// Neither the same instance nor a new one tells again what is recorded, also when an operator has moved the offset back: then no delivery is
// marked as repeated.
func TestARepeatedEventIsNotToldAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	first := s.start(Config{})
	const orders = 20
	for i := range orders {
		id := fmt.Sprintf("o%d", i)
		customer := "c1"
		if i%2 == 1 {
			customer = "nobody"
		}
		s.order(id, placed(id, customer), confirmed(id, customer))
	}
	s.awaitNotices(2 * orders)
	s.awaitDone()
	first.stop()

	s.rewind()
	second := s.start(Config{})
	eventstest.Eventually(t, limit, "a new instance has seen everything", func() bool { return second.count("known") == 2*orders })
	s.awaitDone()
	if sent, skipped := second.count("sent"), second.count("skipped"); sent != 0 || skipped != 0 {
		t.Errorf("sent %d, skipped %d again", sent, skipped)
	}
	s.order("new", placed("new", "c1"))
	s.awaitNotices(2*orders + 1)
	for _, m := range s.mails() {
		if m.Attempts != 1 {
			t.Errorf("%s: %d attempts", m.MessageID, m.Attempts)
		}
	}
	if s.sink.Total() != orders+1 {
		t.Errorf("%d mails, want %d", s.sink.Total(), orders+1)
	}
}

func TestManyOrdersAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(Config{SMTPConnections: 3, Lanes: 16})
	s.start(Config{SMTPConnections: 3, Lanes: 16}) // two members
	const customers, orders = 5, 60
	for c := range customers {
		s.address(fmt.Sprint("c", c), fmt.Sprintf("c%d@customers.example", c))
	}
	var wg sync.WaitGroup
	for c := range customers {
		wg.Go(func() {
			for i := range orders / customers {
				id, customer := fmt.Sprintf("o%d-%d", c, i), fmt.Sprint("c", c)
				s.order(id, placed(id, customer))
				s.order(id, confirmed(id, customer))
			}
		})
	}
	wg.Wait()
	s.awaitNotices(2 * orders)
	s.awaitDone()
	mails := s.mails()
	if len(mails) != 2*orders {
		t.Fatalf("%d mails, want %d", len(mails), 2*orders)
	}
	for _, m := range mails {
		if want, _, _ := strings.Cut(strings.TrimPrefix(m.MessageID, "o"), "-"); m.To[0] != "c"+want+"@customers.example" || m.Attempts != 1 {
			t.Errorf("%s went to %v in %d attempts", m.MessageID, m.To, m.Attempts)
		}
	}
}

// On three servers a replica may lag behind: an address that was stored before its order is found all the same.
func TestOnThreeServers(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, eventstest.StartCluster(t))
	in := s.start(Config{})
	if in.email.contacts.replicas != 3 {
		t.Fatalf("the bucket has %d replicas", in.email.contacts.replicas)
	}
	const orders = 30
	for i := range orders {
		id, customer := fmt.Sprintf("o%d", i), fmt.Sprintf("c%d", i)
		s.address(customer, customer+"@customers.example")
		s.order(id, placed(id, customer))
	}
	s.order("o-nobody", placed("o-nobody", "nobody"))
	s.awaitNotices(orders + 1)
	s.awaitDone()
	if s.sink.Total() != orders || in.count("skipped") != 1 {
		t.Errorf("%d mails, %d skipped; want %d, 1", s.sink.Total(), in.count("skipped"), orders)
	}
}

func TestTypesThatNobodyIsToldOfArePassedOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	in := s.start(Config{})
	d := bus.Delivery{Subject: s.subjects.Order("o1"), Event: events.Event{ID: events.NewID(), Source: "/test", Type: "shop.order.packed.v1", Version: 1}}
	if err := in.handle(t.Context(), d); err != nil {
		t.Errorf("handle: %v", err)
	}
	if last, err := s.notices.LastSequence(t.Context()); err != nil || last != 0 {
		t.Errorf("%d notices, %v; want none", last, err)
	}
}

func TestNoticesOfAnOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	in := s.start(Config{})
	id := "o 1.*" // any text can be an id
	s.order(id, placed(id, "nobody"))
	s.awaitNotices(1)
	s.address("nobody", "now@customers.example")
	s.order(id, confirmed(id, "nobody"))
	s.awaitNotices(2)

	mux := http.NewServeMux()
	in.Routes(humago.New(mux, huma.DefaultConfig("test", "1")))
	get := func(query string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/notices"+query, nil))
		return w
	}
	body := get("?order=o%201.*").Body.String()
	first, second := strings.Index(body, `"status":"skipped","reason":"no address"`), strings.Index(body, `"status":"sent","message_id":"o=201=2E=2A.2.email@tidemark.local"`)
	if first < 0 || second < first {
		t.Errorf("answer is %s", body)
	}
	if w := get("?order=nothing"); w.Code != http.StatusNotFound {
		t.Errorf("an unknown order is answered %d", w.Code)
	}
	if w := get(""); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("no order is answered %d", w.Code)
	}
}
