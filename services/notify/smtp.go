package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/tidemark/tidemark/pkg/events/fail"
)

// mailer sends mails over a few kept connections.
type mailer struct {
	slots   chan *slot // the free ones
	timeout time.Duration
}

// dialer is a [net.Dialer], or a [tls.Dialer] for implicit TLS.
type dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// slot is the place of one connection, which is made when it is needed.
type slot struct {
	dialer dialer
	client *mail.Client
	conn   net.Conn     // under session; nil where nothing is open
	talk   *smtp.Client // nil where nothing is open
}

func newMailer(cfg Config) (*mailer, error) {
	m := &mailer{slots: make(chan *slot, cfg.SMTPConnections), timeout: cfg.SendTimeout}
	for range cfg.SMTPConnections {
		s := &slot{dialer: &net.Dialer{}}
		if cfg.SMTPTLS == TLSImplicit {
			s.dialer = &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}} // the name to check is that of the address
		}
		var err error
		if s.client, err = newSMTPClient(cfg, s.dial); err != nil {
			return nil, err
		}
		m.slots <- s
	}
	return m, nil
}

func newSMTPClient(cfg Config, dial mail.DialContextFunc) (*mail.Client, error) {
	host, port, err := net.SplitHostPort(cfg.SMTPAddr)
	if err != nil {
		return nil, fmt.Errorf("mail server: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("mail server: port %q is no number", port)
	}
	opts := []mail.Option{
		mail.WithPort(number), mail.WithTimeout(cfg.SendTimeout),
		// A kept connection that is gone shows at the first command, before anything was handed over, and after a mail the server is at its
		// start again: asking for both would be half of all round trips.
		mail.WithoutNoop(), mail.WithoutRset(),
	}
	policy := mail.TLSOpportunistic // also for implicit TLS: such a server offers no STARTTLS, and the library sees that the connection is encrypted
	switch cfg.SMTPTLS {
	case TLSMandatory:
		policy = mail.TLSMandatory
	case TLSNone:
		policy = mail.NoTLS
	}
	opts = append(opts, mail.WithTLSPolicy(policy), mail.WithDialContextFunc(dial))
	if cfg.SMTPUsername != "" { // the strongest way that the server knows; none in clear text without TLS
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(cfg.SMTPUsername), mail.WithPassword(cfg.SMTPPassword))
	}
	client, err := mail.NewClient(host, opts...)
	if err != nil {
		return nil, fmt.Errorf("mail server: %w", err)
	}
	return client, nil
}

// send hands one mail to the server. A nil error means that the server has taken it. The error is permanent where the server refused the mail
// for good. It repeats no address: servers like to say whom they don't know.
func (m *mailer) send(ctx context.Context, msg *mail.Msg) error {
	var s *slot
	select {
	case s = <-m.slots:
	case <-ctx.Done():
		return fmt.Errorf("wait for a free connection to the mail server: %w", ctx.Err())
	}
	defer func() { m.slots <- s }()
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()

	kept := s.talk != nil
	err := s.send(ctx, msg)
	if err != nil && kept && s.talk == nil && nothingHandedOver(err) { // the server had closed it meanwhile
		err = s.send(ctx, msg)
	}
	return classify(ctx, err)
}

// close ends all connections. No mail may be on its way.
func (m *mailer) close() {
	for range cap(m.slots) {
		s := <-m.slots
		if s.talk != nil {
			_ = s.conn.SetDeadline(time.Now().Add(time.Second))
			_ = s.talk.Quit() // a courtesy
			s.drop()
		}
	}
}

func (s *slot) send(ctx context.Context, msg *mail.Msg) error {
	if s.talk == nil {
		if err := s.connect(ctx); err != nil {
			return err
		}
	}
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // what waits for an answer ends with an error
	err := s.client.SendWithSMTPClient(s.talk, msg)
	if !stop() || err != nil && answerOf(err) == 0 || answerOf(err) == 421 {
		s.drop()
	}
	if msg.IsDelivered() {
		return nil
	}
	return err
}

// errConnect is about the mail server, not about the mail.
var errConnect = errors.New("connect to the mail server")

func (s *slot) connect(ctx context.Context) error {
	talk, err := s.client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		s.drop()
		return fmt.Errorf("%w: %w", errConnect, err)
	}
	s.talk = talk
	return nil
}

// dial remembers the connection, so that it can be ended: the library leaves it open when the greeting or the login fails.
func (s *slot) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := s.dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	return conn, nil
}

func (s *slot) drop() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	s.conn, s.talk = nil, nil
}

// answerOf is the server's answer to a mail, 0 where there was none.
func answerOf(err error) int {
	if refused, ok := errors.AsType[*mail.SendError](err); ok {
		return refused.ErrorCode()
	}
	return 0
}

// nothingHandedOver reports whether the connection broke before the server was given the mail.
func nothingHandedOver(err error) bool {
	var broken *mail.SendError
	if !errors.As(err, &broken) || broken.ErrorCode() != 0 && broken.ErrorCode() != 421 {
		return false
	}
	return broken.Reason == mail.ErrConnCheck || broken.Reason == mail.ErrSMTPMailFrom
}

// classify says what a failure means, in words without an address.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errConnect) {
		if answer, ok := errors.AsType[*textproto.Error](err); ok {
			return fmt.Errorf("%w: it answered %d", errConnect, answer.Code)
		}
		return err
	}
	var refused *mail.SendError
	if !errors.As(err, &refused) {
		return errors.New("send mail: failed")
	}
	switch code := refused.ErrorCode(); {
	case code >= 500:
		return fail.Permanent(fmt.Errorf("send mail: the server answered %d %s (%s)", code, refused.EnhancedStatusCode(), refused.Reason))
	case code >= 400:
		return fmt.Errorf("send mail: the server answered %d %s (%s)", code, refused.EnhancedStatusCode(), refused.Reason)
	}
	switch refused.Reason {
	case mail.ErrGetSender, mail.ErrGetRcpts, mail.ErrNoUnencoded: // the mail itself is at fault
		return fail.Permanent(fmt.Errorf("send mail: %s", refused.Reason))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("send mail: %s: %w", refused.Reason, ctx.Err())
	}
	return fmt.Errorf("send mail: %s: the connection broke", refused.Reason)
}
