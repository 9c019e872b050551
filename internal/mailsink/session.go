package mailsink

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/emersion/go-smtp"
)

// session is one SMTP conversation. The library has checked the order of the commands and the limits.
type session struct {
	sink *Sink
	from string
	to   []string
}

var _ smtp.Session = (*session)(nil)

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

// Data takes one mail. When it returns nil the sender hears 250, and then the mail is in the ledger.
func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		if refused, ok := errors.AsType[*smtp.SMTPError](err); ok {
			return refused // too large
		}
		return refusal(451, smtp.EnhancedCode{4, 4, 2}, "The mail broke off")
	}
	m, err := parseMessage(bytes.NewReader(raw))
	if err != nil {
		return refusal(554, smtp.EnhancedCode{5, 6, 0}, "This is no mail: "+err.Error())
	}
	if refused := s.sink.faults.get().strike(s.sink.stopping, m); refused != nil {
		if err := s.sink.ledger.refuse(m.messageID, refused.Code, time.Now()); err != nil {
			s.sink.log.Error("the mail ledger can't be written", "error", err)
		}
		return refused
	}
	mail := Mail{MessageID: m.messageID, From: s.from, To: s.to, Subject: m.subject, Body: m.body, At: time.Now().UTC()}
	if err := s.sink.ledger.accept(mail); err != nil {
		s.sink.log.Error("the mail ledger can't be written", "error", err)
		return refusal(452, smtp.EnhancedCode{4, 3, 1}, "The mail can't be stored")
	}
	return nil
}
