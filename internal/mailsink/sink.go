package mailsink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/emersion/go-smtp"
)

// Sink takes mail. Make one with [New].
type Sink struct {
	cfg      Config
	log      *slog.Logger
	listener *listener
	ledger   *ledger
	faults   faultSwitch
	ready    chan struct{}

	stopping context.Context // ends when no more mail is taken
	stop     context.CancelFunc
}

// New opens the ledger and takes the address, so that [Sink.Addr] is known before anything is started. Run serves; a sink that is never run
// must be closed.
func New(cfg Config) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mail sink: %w", err)
	}
	cfg = cfg.withDefaults()
	books, err := openLedger(cfg.Dir)
	if err != nil {
		return nil, err
	}
	inner, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cfg.Addr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mail sink: %w", err), books.close())
	}
	s := &Sink{cfg: cfg, log: cfg.Logger, listener: newListener(inner, cfg.MaxConnections), ledger: books, ready: make(chan struct{})}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Addr is the SMTP address, host:port.
func (s *Sink) Addr() string { return s.listener.Addr().String() }

// Ready is closed when mail is taken.
func (s *Sink) Ready() <-chan struct{} { return s.ready }

// Total is the number of mails taken since the ledger began, each Message-ID once.
func (s *Sink) Total() int { return s.ledger.total() }

// Mails are the mails taken, oldest first: limit of them after the first offset ones.
func (s *Sink) Mails(offset, limit int) ([]Mail, error) {
	_, items, err := s.ledger.page("", false, offset, limit)
	return items, err
}

// endTime is how long conversations may take to end.
const endTime = 5 * time.Second

// Run takes mail until ctx ends. Mails that are being written then are finished and answered; Run closes the ledger and returns nil. A sink
// runs once.
func (s *Sink) Run(ctx context.Context) error {
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{sink: s}, nil }))
	server.Domain = "mailsink.tidemark.local"
	server.MaxMessageBytes, server.MaxRecipients = maxMessageBytes, maxRecipients
	server.ReadTimeout, server.WriteTimeout = s.cfg.ReadTimeout, s.cfg.WriteTimeout
	server.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(s.listener) }()
	close(s.ready)
	select {
	case err := <-failed:
		return errors.Join(fmt.Errorf("mail sink: %w", err), s.end(server))
	case <-ctx.Done():
		err := s.end(server)
		return errors.Join(err, <-failed)
	}
}

func (s *Sink) end(server *smtp.Server) error {
	s.stop()
	s.listener.end()
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	err := server.Shutdown(ctx) // closes the listener and waits for the conversations
	// Unless Serve had not come round to telling the server of it.
	if again := s.listener.Close(); !errors.Is(again, net.ErrClosed) {
		err = errors.Join(err, again)
	}
	return errors.Join(err, s.ledger.close())
}

// Close gives up a sink that was never run.
func (s *Sink) Close() error {
	s.stop()
	return errors.Join(s.listener.Close(), s.ledger.close())
}
