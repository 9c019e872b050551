package notify

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"strconv"

	"github.com/wneessen/go-mail"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// email is the channel e-mail.
type email struct {
	from     *netmail.Address
	contacts contacts
	mailer   *mailer
}

const (
	reasonNoAddress = "no address"
	messageIDDomain = "tidemark.local"
	maxIDPart       = 128 // what an order's id may take of a Message-ID
)

func (*email) name() string { return channelEmail }

// address is the customer's.
func (e *email) address(ctx context.Context, n news) (string, error) {
	address, err := e.contacts.email(ctx, n.customerID)
	if errors.Is(err, errBadAddress) {
		return "", fail.Permanent(err)
	}
	return address, err
}

// send sends a mail.
func (e *email) send(ctx context.Context, n news) (outcome, error) {
	id := emailID(n)
	if err := e.mailer.send(ctx, e.compose(n, id, n.address)); err != nil {
		return outcome{}, err
	}
	return outcome{messageID: id}, nil
}

// emailID is the Message-ID: always the same for the same version of an order. What of an order's id can't stand in one is encoded, as in a subject.
func emailID(n news) string {
	order := events.Token(n.orderID)
	if len(order) > maxIDPart {
		order = events.DeriveID(n.orderID)
	}
	return order + "." + strconv.FormatUint(n.version, 10) + "." + channelEmail + "@" + messageIDDomain
}

// compose writes the mail. Nothing that an event says can add a header or a recipient: the texts are clean, the library encodes what is not plain ASCII, the
// address was checked, and the Message-ID is a token.
func (e *email) compose(n news, id, address string) *mail.Msg {
	text := n.text()
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	m.FromMailAddress(e.from)
	m.ToMailAddress(&netmail.Address{Address: address})
	m.Subject(text.subject)
	m.SetDate()
	m.SetMessageIDWithValue(id)
	m.SetGenHeader(mail.Header("Auto-Submitted"), "auto-generated") // RFC 3834: no holiday notes, please
	m.SetBodyString(mail.TypeTextPlain, text.body)
	return m
}

func parseFrom(s string) (*netmail.Address, error) {
	a, err := netmail.ParseAddress(s)
	if err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	return a, nil
}
