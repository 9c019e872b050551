package notify

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// written is a mail as a mail server gets it.
func written(tb testing.TB, n news, address string) *netmail.Message {
	tb.Helper()
	e := &email{from: &netmail.Address{Name: "Tidemark Shöp", Address: "shop@tidemark.example"}}
	var b bytes.Buffer
	if _, err := e.compose(n, emailID(n), address).WriteTo(&b); err != nil {
		tb.Fatal(err)
	}
	m, err := netmail.ReadMessage(&b)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestHeadersOfAMail(t *testing.T) {
	t.Parallel()
	m := written(t, news{orderID: "o1", version: 2, text: func() text { return confirmedText(confirmed("o1", "c1")) }}, "ann@customers.example")
	for name, want := range map[string]string{
		"Message-Id": "<o1.2.email@tidemark.local>", "To": "<ann@customers.example>", "Auto-Submitted": "auto-generated",
		"Subject": "Your order o1 is confirmed", "Mime-Version": "1.0", "User-Agent": "", "X-Mailer": "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if date, err := m.Header.Date(); err != nil || time.Since(date) > time.Minute || time.Since(date) < -time.Second {
		t.Errorf("Date is %v, %v", date, err)
	}
	if from, err := m.Header.AddressList("From"); err != nil || from[0].Name != "Tidemark Shöp" || from[0].Address != "shop@tidemark.example" {
		t.Errorf("From is %v, %v", from, err)
	}
}

var mailHeaders = []string{
	"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To",
}

// checkMail holds for every event: the headers that a mail has are the ones that it must have, each once, and its recipient is the one that was meant.
func checkMail(tb testing.TB, m *netmail.Message, n news) {
	tb.Helper()
	var names []string
	for name, values := range m.Header {
		names = append(names, name)
		if len(values) != 1 {
			tb.Errorf("%s stands there %d times", name, len(values))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, mailHeaders) {
		tb.Errorf("headers are %v, want %v", names, mailHeaders)
	}
	if to, err := m.Header.AddressList("To"); err != nil || len(to) != 1 || to[0].Address != "ann@customers.example" {
		tb.Errorf("recipients are %v, %v", to, err)
	}
	if subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil || strings.ContainsAny(subject, "\r\n") {
		tb.Errorf("subject is %q, %v", subject, err)
	}
	id := m.Header.Get("Message-Id")
	if id != "<"+emailID(n)+">" || strings.ContainsAny(emailID(n), "\r\n <>\"") || len(emailID(n)) > 256 {
		tb.Errorf("Message-ID is %q, want %q", id, emailID(n))
	}
	if _, err := io.ReadAll(quotedprintable.NewReader(m.Body)); err != nil {
		tb.Errorf("body: %v", err)
	}
}

func TestNoEventCanAddAHeader(t *testing.T) {
	t.Parallel()
	const evil = "x\r\nBcc: eve@evil.example\r\n\r\nHello\r\n.\r\nMAIL FROM:<eve@evil.example>\u2028\u202e\x00"
	subjects := events.DefaultTopology(1)
	for _, payload := range []any{
		events.OrderPlaced{OrderID: evil, CustomerID: evil, Currency: evil, Lines: []events.Line{{SKU: evil, Quantity: 1}}},
		events.OrderConfirmed{OrderID: evil, CustomerID: evil, Currency: evil, PaymentID: evil},
		events.OrderRejected{OrderID: evil, CustomerID: evil, Reason: events.RejectReason(evil), Detail: evil},
		events.OrderCancelled{OrderID: evil, CustomerID: evil, Reason: evil},
	} {
		ev, err := events.New("/test", typeOf(payload), evil, time.Now(), payload)
		if err != nil {
			t.Fatal(err)
		}
		ev.Version = 1
		s := subjects.Subjects()
		n, tell, err := readNews(bus.Delivery{Event: ev, Subject: s.Order(evil)}, s)
		if err != nil || !tell {
			t.Fatalf("%s: %v", ev.Type, err)
		}
		m := written(t, n, "ann@customers.example")
		checkMail(t, m, n)
		body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		if err != nil || strings.Contains(string(body), "\nBcc") || strings.Contains(string(body), "\n.\r\n") || strings.Contains(string(body), "\u202e") {
			t.Errorf("%s: body is %q, %v", ev.Type, body, err)
		}
	}
}

func FuzzMail(f *testing.F) {
	f.Add("o1", "85123A", "because", int64(1), int64(-5))
	f.Add("x\r\nBcc: eve@evil.example", "=?utf-8?q?=0D=0A?=", "\r\n.\r\n", int64(1<<62), int64(0))
	f.Fuzz(func(t *testing.T, order, sku, reason string, quantity, price int64) {
		for _, words := range []text{
			placedText(events.OrderPlaced{OrderID: order, Currency: reason, Lines: []events.Line{{SKU: sku, Quantity: quantity, UnitPrice: events.Minor(price)}}}),
			cancelledText(events.OrderCancelled{OrderID: order, Reason: reason}),
		} {
			n := news{orderID: order, version: 1, text: func() text { return words }}
			checkMail(t, written(t, n, "ann@customers.example"), n)
		}
	})
}

// An address that is taken is exactly one recipient, and no part of an SMTP command.
func FuzzValidAddress(f *testing.F) {
	for _, s := range []string{"ann@customers.example", "a@b\r\nRCPT TO:<c@d>", "Ann <a@b.example>", `"a b"@c.example`, "a@b.example, c@d.example", "ä@ö.example", "<a@b>", "a@[127.0.0.1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !validAddress(s) {
			return
		}
		if strings.ContainsAny(s, "\r\n \t<>\"") || strings.Count(s, "@") < 1 {
			t.Fatalf("%q is taken", s)
		}
		if list, err := netmail.ParseAddressList(s); err != nil || len(list) != 1 || list[0].Address != s {
			t.Errorf("%q is taken and is %v, %v", s, list, err)
		}
	})
}

func TestValidAddress(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"ann@customers.example": true, "a+b.c@x-y.example": true, "17850@customers.example": true, "änn@customers.example": true,
		"": false, "ann": false, "Ann <a@b.example>": false, "a@b.example\r\nBcc: c@d.example": false, "a@b.example,c@d.example": false,
		`"a b"@c.example`: false, "a b@c.example": false, strings.Repeat("a", 250) + "@b.example": false, "a@b.example\x00": false,
	} {
		if got := validAddress(s); got != want {
			t.Errorf("validAddress(%q) is %t", s, got)
		}
	}
}

func TestMoney(t *testing.T) {
	t.Parallel()
	for m, want := range map[events.Minor]string{
		0: "GBP 0.00", 5: "GBP 0.05", 99999: "GBP 999.99", 100000: "GBP 1,000.00", 123456789012: "GBP 1,234,567,890.12", -123450: "GBP -1,234.50",
	} {
		if got := money(m, "GBP"); got != want {
			t.Errorf("money(%d) is %q, want %q", m, got, want)
		}
	}
}

func TestALongOrderIsNotListedWhole(t *testing.T) {
	t.Parallel()
	p := placed("o1", "c1")
	for len(p.Lines) < maxListed+1 {
		p.Lines = append(p.Lines, events.Line{SKU: "X", Quantity: 1, UnitPrice: 1})
	}
	if body := placedText(p).body; !strings.Contains(body, "  and 1 more line\n") || strings.Count(body, " x ") != maxListed {
		t.Errorf("body is %s", body)
	}
}

// The leader's answer and the bucket's are the same; the leader is asked where a replica may lag.
func TestContactsAskTheLeader(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("a.b *", "ann@customers.example")
	s.address("deleted", "gone@customers.example")
	c, err := openContacts(t.Context(), s.js)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.bucket.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	if c.replicas != 1 {
		t.Fatalf("%d replicas", c.replicas)
	}
	for customer, want := range map[string]string{"a.b *": `{"email":"ann@customers.example"}`, "deleted": "", "never": ""} {
		got, err := c.fromLeader(t.Context(), events.Token(customer))
		if want == "" && !errors.Is(err, errNoAddress) || want != "" && err != nil || string(got) != want {
			t.Errorf("%s: the leader says %q, %v; want %q", customer, got, err, want)
		}
		c.replicas = 3 // as on a cluster
		if _, err := c.email(t.Context(), customer); want == "" && !errors.Is(err, errNoAddress) || want != "" && err != nil {
			t.Errorf("%s: %v", customer, err)
		}
	}
}
