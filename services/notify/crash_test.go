package notify

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// swallower stands between a sender and the mail server, and keeps from the sender that its mail was taken.
type swallower struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

func newSwallower(t *testing.T, target string) *swallower {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &swallower{listener: l, target: target}
	s.work.Go(s.serve)
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

func (s *swallower) serve() {
	for {
		near, err := s.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", s.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		s.mu.Lock()
		s.conns = append(s.conns, near, far)
		s.mu.Unlock()
		s.work.Go(func() { _, _ = io.Copy(far, near); _ = far.Close() })
		s.work.Go(func() { s.answers(near, far) })
	}
}

// answers passes on what the server says, up to the answer to a mail.
func (s *swallower) answers(near, far net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := far.Read(buf)
		if err != nil {
			_ = near.Close()
			return
		}
		if bytes.Contains(buf[:n], []byte("queued")) {
			continue
		}
		_, _ = near.Write(buf[:n])
	}
}

// A process that is killed between sending and recording is the only way to a second mail, and that one has the same Message-ID.
func TestACrashBeforeTheRecordSendsTheSameMessageIDAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childNATS+"="+s.server.URL(), childSMTP+"="+newSwallower(t, s.sink.Addr()).listener.Addr().String())
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	t.Cleanup(kill)

	s.order("o1", placed("o1", "c1"))
	eventstest.Eventually(t, limit, "the mail was taken", func() bool { return s.sink.Total() == 1 })
	kill()
	if last, err := s.notices.LastSequence(t.Context()); err != nil || last != 0 {
		t.Fatalf("%d notices, %v; want none yet", last, err)
	}

	s.start(Config{})
	s.awaitNotices(1)
	s.awaitDone()
	mails := s.mails()
	if len(mails) != 1 || mails[0].Attempts != 2 || mails[0].Refused != 0 {
		t.Errorf("mails are %+v, want one, handed in twice", mails)
	}
	if _, n := s.notice("o1", 1, channelEmail); n.MessageID != mails[0].MessageID {
		t.Errorf("the notice names %s, the mail is %s", n.MessageID, mails[0].MessageID)
	}
}
