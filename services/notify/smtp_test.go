package notify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/tidemark/tidemark/pkg/events/fail"
)

// script is a mail server that answers as it is told. An empty answer closes the connection; "silence" says nothing.
type script struct {
	listener net.Listener
	answer   func(connection int, command string) string // "" for the usual one
	accepted atomic.Int64
	work     sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

const (
	hangUp  = "hang up"
	silence = "silence"
)

func newScript(t *testing.T, answer func(connection int, command string) string) *script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{listener: l, answer: answer}
	s.work.Go(func() {
		for number := 1; ; number++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.work.Go(func() { s.talk(c, number) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.work.Wait()
	})
	return s
}

func (s *script) talk(c net.Conn, number int) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	command, usual := "GREETING", "220 hello"
	for {
		text := s.answer(number, command)
		switch text {
		case hangUp:
			return
		case "":
			text = usual
		}
		if command == "CONTENT" && strings.HasPrefix(text, "250") {
			s.accepted.Add(1)
		}
		if text != silence {
			if _, err := fmt.Fprintf(c, "%s\r\n", text); err != nil {
				return
			}
		}
		if strings.HasPrefix(text, "354") {
			for line := ""; line != ".\r\n"; {
				var err error
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			command, usual = "CONTENT", "250 taken"
			continue
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		command, _, _ = strings.Cut(strings.TrimSpace(line), " ")
		usual = "250 fine"
		if command == "DATA" {
			usual = "354 go on"
		}
	}
}

func mailerTo(t *testing.T, addr string, change func(*Config)) *mailer {
	t.Helper()
	cfg := Config{SMTPAddr: addr, SMTPConnections: 1, SendTimeout: 5 * time.Second}
	if change != nil {
		change(&cfg)
	}
	m, err := newMailer(cfg.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return m
}

const secretAddress = "ann.secret@customers.example"

func testMail() *mail.Msg {
	e := &email{from: &netmail.Address{Address: "shop@tidemark.example"}}
	return e.compose(news{orderID: "o1", version: 1, text: func() text { return text{subject: "s", body: "b"} }}, "o1.1.email@tidemark.local", secretAddress)
}

func TestWhatTheMailServerSays(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, command, answer string
		permanent             bool
		says                  string
	}{
		{"a full mailbox", "RCPT", "452 4.2.2 <" + secretAddress + "> is full", false, "452"},
		{"nobody", "RCPT", "550 5.1.1 <" + secretAddress + "> is unknown", true, "550"},
		{"grey list", "MAIL", "451 later", false, "451"},
		{"sender refused", "MAIL", "553 no", true, "553"},
		{"no room", "DATA", "452 no room", false, "452"},
		{"spam", "CONTENT", "554 5.7.1 spam for " + secretAddress, true, "554"},
		{"temporary at the end", "CONTENT", "451 later", false, "451"},
		{"shutting down", "CONTENT", "421 bye", false, "421"},
		{"breaks at the content", "CONTENT", hangUp, false, "broke"},
		{"breaks at the recipient", "RCPT", hangUp, false, "broke"},
		{"no service for us", "GREETING", "554 go away", false, "554"},
		{"no greeting", "GREETING", hangUp, false, "connect"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := newScript(t, func(_ int, command string) string {
				if command == tc.command {
					return tc.answer
				}
				return ""
			})
			err := mailerTo(t, server.listener.Addr().String(), nil).send(t.Context(), testMail())
			if err == nil || fail.IsPermanent(err) != tc.permanent || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, permanent %t; want permanent %t and %q", err, fail.IsPermanent(err), tc.permanent, tc.says)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error holds the address: %v", err)
			}
		})
	}
}

func TestKeptConnections(t *testing.T) {
	t.Parallel()
	t.Run("are used again", func(t *testing.T) {
		t.Parallel()
		var last atomic.Int64
		server := newScript(t, func(connection int, _ string) string { last.Store(int64(connection)); return "" })
		m := mailerTo(t, server.listener.Addr().String(), nil)
		for range 3 {
			if err := m.send(t.Context(), testMail()); err != nil {
				t.Fatal(err)
			}
		}
		if server.accepted.Load() != 3 || last.Load() != 1 {
			t.Errorf("%d mails over %d connections, want 3 over 1", server.accepted.Load(), last.Load())
		}
	})
	t.Run("that the server has closed are made anew", func(t *testing.T) {
		t.Parallel()
		for _, end := range []string{hangUp, "421 idle for too long"} {
			var mails atomic.Int64
			server := newScript(t, func(connection int, command string) string {
				if command == "MAIL" && connection == 1 && mails.Add(1) > 1 {
					return end
				}
				return ""
			})
			m := mailerTo(t, server.listener.Addr().String(), nil)
			for i := range 3 {
				if err := m.send(t.Context(), testMail()); err != nil {
					t.Fatalf("mail %d after %q: %v", i+1, end, err)
				}
			}
			if server.accepted.Load() != 3 {
				t.Errorf("%d mails taken after %q, want 3", server.accepted.Load(), end)
			}
		}
	})
	t.Run("survive a refusal", func(t *testing.T) {
		t.Parallel()
		var mails atomic.Int64
		server := newScript(t, func(connection int, command string) string {
			if connection > 1 {
				return hangUp
			}
			if command == "RCPT" && mails.Add(1) == 1 {
				return "550 no"
			}
			return ""
		})
		m := mailerTo(t, server.listener.Addr().String(), nil)
		if err := m.send(t.Context(), testMail()); !fail.IsPermanent(err) {
			t.Fatalf("error %v", err)
		}
		if err := m.send(t.Context(), testMail()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheMailServerIsAway(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	err = mailerTo(t, addr, nil).send(t.Context(), testMail())
	if !errors.Is(err, errConnect) || fail.IsPermanent(err) {
		t.Errorf("error %v", err)
	}
}

func TestASilentMailServerTakesNoLongerThanAllowed(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"GREETING", "CONTENT"} {
		server := newScript(t, func(_ int, c string) string {
			if c == command {
				return silence
			}
			return ""
		})
		m := mailerTo(t, server.listener.Addr().String(), func(c *Config) { c.SendTimeout = 100 * time.Millisecond })
		begin := time.Now()
		err := m.send(t.Context(), testMail())
		if err == nil || fail.IsPermanent(err) || time.Since(begin) > 5*time.Second {
			t.Errorf("silence at %s: %v after %s", command, err, time.Since(begin))
		}
	}
}

func TestStoppingEndsAMailAtOnce(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	server := newScript(t, func(_ int, c string) string {
		if c == "CONTENT" {
			close(reached)
			return silence
		}
		return ""
	})
	m := mailerTo(t, server.listener.Addr().String(), func(c *Config) { c.SendTimeout = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if err := m.send(ctx, testMail()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}

// A password is never sent where it could be read.
func TestNoLoginInClearText(t *testing.T) {
	t.Parallel()
	var sawAuth atomic.Bool
	server := newScript(t, func(_ int, c string) string {
		switch c {
		case "EHLO":
			return "250-hello\r\n250 AUTH PLAIN LOGIN"
		case "AUTH":
			sawAuth.Store(true)
		}
		return ""
	})
	m := mailerTo(t, server.listener.Addr().String(), func(c *Config) { c.SMTPUsername, c.SMTPPassword = "shop", "hunter2" })
	err := m.send(t.Context(), testMail())
	if err == nil || sawAuth.Load() || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v, login %t", err, sawAuth.Load())
	}
}

func TestMandatoryTLSSendsNothingWithoutIt(t *testing.T) {
	t.Parallel()
	server := newScript(t, func(int, string) string { return "" })
	m := mailerTo(t, server.listener.Addr().String(), func(c *Config) { c.SMTPTLS = TLSMandatory })
	if err := m.send(t.Context(), testMail()); err == nil || server.accepted.Load() != 0 {
		t.Errorf("error %v, %d mails taken", err, server.accepted.Load())
	}
}
